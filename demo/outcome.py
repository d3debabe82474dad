"""What a pod saw when it tried to talk: the words that cross from the pods to the demo.

In:   results of probes and streams; lines of JSON
Out:  the other of the two
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self


class Outcome(StrEnum):
    """What became of one question."""

    ANSWERED = "answered"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    WRONG = "wrong answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One attempt to connect and ask."""

    target: str
    outcome: Outcome
    seconds: float

    def encode(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Self:
        """Read such a line."""
        fields = json.loads(line)
        return cls(
            target=fields["target"],
            outcome=Outcome(fields["outcome"]),
            seconds=fields["seconds"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One question of a stream; times are seconds since the epoch."""

    number: int
    begun: float
    ended: float
    outcome: Outcome

    def encode(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> Self:
        """Read such a line."""
        fields = json.loads(line)
        return cls(
            number=fields["number"],
            begun=fields["begun"],
            ended=fields["ended"],
            outcome=Outcome(fields["outcome"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """A stream as a whole."""

    records: tuple[Record, ...]

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read a stream's log; a last line that was cut short is left out."""
        whole = text[: text.rfind("\n") + 1]
        return cls(records=tuple(Record.decode(line) for line in whole.splitlines()))

    @property
    def answered(self) -> int:
        """How many questions were answered."""
        return sum(record.outcome is Outcome.ANSWERED for record in self.records)

    @property
    def failed(self) -> tuple[Record, ...]:
        """Those that were not."""
        return tuple(r for r in self.records if r.outcome is not Outcome.ANSWERED)

    @property
    def slowest_seconds(self) -> float:
        """The longest wait for an answer."""
        return max((r.ended - r.begun for r in _answered(self.records)), default=0.0)


def _answered(records: Iterable[Record]) -> Iterable[Record]:
    return (record for record in records if record.outcome is Outcome.ANSWERED)
