"""Run one trace in a process of its own, and read its answers.

In:   Question
Out:  Answers, one by one
A shell: owns the probe's process. When the caller stops reading, the probe ends and is waited for.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator

from nodeagent.trace.messages import Answer, Question, decode_answer, encode_question

_END_SECONDS = 10.0
"""The probe looks at its input ten times a second; detaching takes a moment more."""


class ProbeDied(Exception):
    """The probe ended without a word of why; its own error is on standard error."""


def answers(question: Question) -> Generator[Answer, None, None]:
    """Ask, and yield what comes; raises ProbeDied."""
    probe = subprocess.Popen(
        [sys.executable, "-m", "nodeagent.trace.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if probe.stdin is None or probe.stdout is None:
        raise ProbeDied("no pipes to the probe")
    said_anything = False
    try:
        probe.stdin.write(encode_question(question) + "\n")
        probe.stdin.flush()
        for line in probe.stdout:
            said_anything = True
            yield decode_answer(line)
    except BrokenPipeError:
        said_anything = False
    finally:
        _end(probe)
    if not said_anything or probe.returncode not in (0, 1):
        raise ProbeDied(f"the trace process ended with code {probe.returncode}")


def _end(probe: subprocess.Popen[str]) -> None:
    """Close its input, which ends it; take it down if it does not."""
    for pipe in (probe.stdin, probe.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue
    try:
        probe.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.wait()
