"""The trial on disk: whether the last flip was confirmed, kept through restarts.

In:   Trial
Out:  `state_dir/bundle/trial`; and back
Shell over one file.

Holds always:
1. The file is one whole trial whenever the agent dies; one that is damaged counts as settled (logged):
   what is in force then stays, and the next publication is tried as any.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Final

import structlog

from netpolicy.durable_files import DiskFiles, Files
from netpolicy.terms import MAX_CONFIRM_SECONDS
from netpolicy.trust import MAX_SEQUENCE, is_digest
from nodeagent.rollout.confirm import Stage, Trial

log = structlog.get_logger()

TRIAL_DAMAGED: Final = "trial_damaged"
MAX_BYTES: Final = 4096


class TrialFile:
    """One agent's trial."""

    def __init__(self, state_dir: Path, *, files: Files | None = None) -> None:
        self._path = state_dir / "bundle" / "trial"
        self._files = files or DiskFiles()

    def load(self) -> Trial:
        """The trial as it was saved last; a settled one if there is none."""
        try:
            return _decode(self._files.read(self._path, max_bytes=MAX_BYTES))
        except FileNotFoundError:
            return Trial()
        except (OSError, ValueError) as error:
            log.error(TRIAL_DAMAGED, path=str(self._path), error=str(error))
            return Trial()

    def save(self, trial: Trial) -> None:
        """Write it through to the disk; raises OSError."""
        beside = self._path.with_name("trial.new")
        self._files.write(beside, json.dumps(asdict(trial)).encode())
        self._files.rename(beside, self._path)


def trial_clock() -> float:
    """Seconds that go on while the agent is dead and the clock on the wall is set."""
    return clock_gettime(CLOCK_BOOTTIME)


def _decode(data: bytes) -> Trial:
    fields = json.loads(data)
    if not isinstance(fields, dict) or fields.keys() != asdict(Trial()).keys():
        raise ValueError("the file holds no trial")
    digest = fields["candidate_digest"]
    if not isinstance(digest, str) or (digest and not is_digest(digest)):
        raise ValueError("the candidate's digest is none")
    return Trial(
        candidate_digest=digest,
        stage=Stage(fields["stage"]),
        sequence=_whole(fields["sequence"], MAX_SEQUENCE),
        deadline=float(fields["deadline"]),
        confirm_seconds=_whole(fields["confirm_seconds"], MAX_CONFIRM_SECONDS),
        taken_back=_whole(fields["taken_back"], MAX_SEQUENCE),
    )


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r} is no number of a trial")
    return value
