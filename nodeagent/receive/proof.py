"""What proves, on one stream, that the reconciler still hears us: an answer of ours, confirmed.

In:   answers sent, confirmations heard
Out:  which publication is confirmed
Pure.

Holds always:
1. A confirmation proves something only of an answer that was given after its publication came into
   force: answers are numbered, because one announcement may be answered several times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from netpolicy.wire.tidegate.v1 import push_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The last answer's number; since which answer `sequence` was said to be in force (0: never)."""

    answer: int = 0
    since: int = 0
    sequence: int = 0

    def after(self, answer: push_pb2.Ack, *, is_taken: bool) -> Proof:
        """The proof that the next answer opens."""
        number = self.answer + 1
        if not is_taken or answer.sequence == self.sequence:
            return replace(self, answer=number)
        return Proof(answer=number, since=number, sequence=answer.sequence)

    def is_given_by(self, answer: int) -> bool:
        """True if the confirmation of this answer proves it."""
        return 0 < self.since <= answer <= self.answer
