"""The process that compiles and runs a trace: `python -m nodeagent.trace.probe`.

In:   one line on standard input, a Question; the end of standard input ends the trace
Out:  one Answer a line on standard output
A shell round BCC. Exit code 1 after Refused, else 0.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodeagent.trace.btf import BtfError, KernelTypes
from nodeagent.trace.filters import View
from nodeagent.trace.headers import SOURCE_VARIABLE, HeaderPlaces, find_headers
from nodeagent.trace.messages import (
    Answer,
    Lost,
    Question,
    Ready,
    Refused,
    decode_question,
    encode_answer,
)
from nodeagent.trace.missing import Missing
from nodeagent.trace.path_program import ATTACHED, FUNCTIONS, build_path_program
from nodeagent.trace.program import ENTRY, LOST, RING, build_program, packet_offsets
from nodeagent.trace.teller import Teller
from nodeagent.trace.tracefs import read_formats
from nodeagent.trace.tracepoint import (
    DropTracepoint,
    TracepointError,
    decode_format,
    field_offsets,
)

_DROPPED: Final = "skb:kfree_skb"
BTF_PATH: Final = Path("/sys/kernel/btf/vmlinux")
POLL_MILLISECONDS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """All that a trace stands on: BCC's module, the program's text, where to attach its functions.

    `reasons` names the kernel's drop reasons.
    """

    bcc: Any
    text: str
    functions: Mapping[str, str]
    reasons: DropTracepoint


def main() -> int:
    """Answer the one question on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's: it closes our input
    question = decode_question(sys.stdin.readline())
    prepared = prepare(question, HeaderPlaces())
    if isinstance(prepared, Missing):
        _say(Refused(prepared))
        return 1
    try:
        program = prepared.bcc.BPF(text=prepared.text)
        for tracepoint, function in prepared.functions.items():
            program.attach_tracepoint(tp=tracepoint, fn_name=function)
    # BCC raises bare Exception for whatever the compiler or the kernel refused.
    except Exception as error:  # noqa: BLE001
        _say(Refused(_refused_by_kernel(error)))
        return 1
    try:
        _follow(question, program, prepared.reasons)
    except BrokenPipeError:
        os._exit(0)  # nobody reads any more; the interpreter's own flush would complain again
    finally:
        program.cleanup()
    return 0


def prepare(question: Question, places: HeaderPlaces) -> Prepared | Missing:
    """Gather what a trace needs, or say what is missing first."""
    if os.geteuid() != 0:
        return Missing(what="root: it loads a kernel program", fix="sudo nodeagent trace …")
    headers = find_headers(places, os.environ)
    if isinstance(headers, Missing):
        return headers
    if headers.source:
        os.environ[SOURCE_VARIABLE] = str(headers.source)
    bcc = _import_bcc()
    if isinstance(bcc, Missing):
        return bcc
    texts = read_formats(tracepoints_of(question.view))
    if isinstance(texts, Missing):
        return texts
    try:
        return _program(question, texts, bcc)
    except (TracepointError, BtfError) as error:
        return Missing(what=f"a kernel that tells: {error}", fix="a kernel of 5.17 or later")
    except OSError:
        return Missing(
            what=f"{BTF_PATH}: the kernel's description of its own structures",
            fix="a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are",
        )


def tracepoints_of(view: View) -> tuple[str, ...]:
    """Every tracepoint whose format the view's program is written from."""
    return (_DROPPED,) if view is View.DROPS else tuple(FUNCTIONS)


def _program(question: Question, texts: Mapping[str, str], bcc: Any) -> Prepared:
    """Write the program for this kernel. Raises if the kernel does not tell what it takes."""
    reasons = decode_format(texts[_DROPPED])
    offsets = packet_offsets(KernelTypes(BTF_PATH.read_bytes()))
    if question.view is View.DROPS:
        text = build_program(question.wanted, offsets=offsets, tracepoint=reasons)
        return Prepared(bcc=bcc, text=text, functions={_DROPPED: ENTRY}, reasons=reasons)
    formats = {name: field_offsets(found) for name, found in texts.items()}
    text = build_path_program(question.wanted, question.view, offsets=offsets, formats=formats)
    functions = {name: FUNCTIONS[name] for name in ATTACHED[question.view]}
    return Prepared(bcc=bcc, text=text, functions=functions, reasons=reasons)


def _import_bcc() -> Any | Missing:
    """BCC's Python binding: a Debian package for Debian's own interpreter, not PyPI's `bcc`."""
    try:
        module = importlib.import_module("bcc")
    except (ImportError, OSError) as error:
        return Missing(
            what=f"BCC for {sys.executable} ({error})",
            fix="apt-get install python3-bpfcc; a virtual environment needs --system-site-packages",
        )
    if not hasattr(module, "BPF"):
        return Missing(
            what=f"BCC: {module.__file__} is PyPI's `bcc`, which is not it",
            fix="pip uninstall bcc && apt-get install python3-bpfcc",
        )
    return module


def _refused_by_kernel(error: Exception) -> Missing:
    return Missing(
        what=f"the trace program was refused: {error or type(error).__name__}",
        fix="the compiler's or the verifier's own words are above; headers of a kernel nearer to "
        "the running one may help",
    )


def _follow(question: Question, program: Any, reasons: DropTracepoint) -> None:
    """Report what comes until the question is answered or the command goes away."""
    teller = Teller(
        reasons=reasons,
        place=lambda location: _place(program, location),
        wall_minus_monotonic_ns=time.time_ns() - time.monotonic_ns(),
    )
    tell = teller.drop if question.view is View.DROPS else teller.sighting
    arrived: deque[bytes] = deque()  # BCC's callback must not raise: it only collects

    def on_record(_context: object, data: int, size: int) -> None:
        arrived.append(ctypes.string_at(data, size))

    program[RING].open_ring_buffer(on_record)
    _say(Ready())
    left = question.drops or sys.maxsize
    deadline = time.monotonic() + question.seconds if question.seconds else float("inf")
    while left and time.monotonic() < deadline and not _input_ended():
        program.ring_buffer_poll(POLL_MILLISECONDS)
        while arrived and left:
            left -= 1
            _say(tell(arrived.popleft()))
    _say(Lost(program[LOST][0].value))


def _place(program: Any, location: int) -> str:
    """Function and offset, from /proc/kallsyms; the bare address where that is hidden."""
    name: str = program.ksym(location, show_offset=True).decode("utf-8", "replace")
    return f"0x{location:x}" if name == "[unknown]" else name


def _say(answer: Answer) -> None:
    print(encode_answer(answer), flush=True)


def _input_ended() -> bool:
    """True once the command closed our input, or died."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], 0)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main())
