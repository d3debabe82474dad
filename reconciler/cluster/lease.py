"""Who of several replicas leads: a Lease, taken, renewed and lost.

In:   the Lease as it is, this replica's name, the monotonic clock
Out:  what to write; the Term that the leader may publish in
Pure.

Holds always:
1. A replica leads only while it renewed the Lease less than RENEW_SECONDS ago by its own clock; nobody takes
   it from a holder before it was seen to stand unrenewed for DURATION_SECONDS, which is longer. No two lead
   at once, however wrong the clocks' time of day is. Who starts and finds its own name there need not wait:
   the process that wrote it has ended, as a pod's containers follow each other.
2. A term's publications have numbers from a range of its own, above all ranges before it: what a
   deposed leader still announces is older than what its successor does, and agents refuse what is older.
3. When the API server was away, the holder has as long to renew as if it had renewed when that came back: a
   Lease that nobody could renew was not given up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from netpolicy.errors import TransientError

DURATION_SECONDS: Final = 15
RENEW_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0
TERM_SEQUENCES: Final = 100
"""How many numbers are set aside at once; renewals set aside more as they are used. A term's begin with the
time, in seconds: few at once, so that they are not far ahead of it when a Lease from a backup is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What a Lease says. `reserved`: no publication has a number above it; `address`: where the holder serves
    agents, `host:port`; `version`: for writing it."""

    holder: str = ""
    address: str = ""
    transitions: int = 0
    reserved: int = 0
    renewed_at: str = ""
    version: str = ""

    @property
    def hold(self) -> tuple[str, int, str]:
        """What changes when somebody takes it, renews it or gives it up; others may write annotations."""
        return self.holder, self.transitions, self.renewed_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One leadership: its fencing token, and its range of publications' numbers."""

    token: int
    first: int
    last: int


def least_number(term: Term | None, *, announced: int, held: int, is_certain: bool) -> int:
    """The least number of the next publication; raises TransientError if there can be none.

    `announced`: this replica's last one; `held`: the highest that an agent says it holds. One that is not
    certain of its term stays below its successors' numbers, whatever agents hold: they refuse what is lower.
    """
    if term is None or announced >= term.last:
        raise TransientError("this replica may not publish now: it does not hold the Lease")
    least = max(term.first, announced + 1)
    if is_certain:
        # An API server that was set back to a backup gives out numbers again; agents remember them.
        least = max(least, held + 1)
    if least > term.last:
        raise TransientError("agents hold higher numbers than the Lease sets aside so far")
    return least


class Election:
    """One replica's part in it."""

    __slots__ = (
        "_address",
        "_identity",
        "_is_heir",
        "_looked_at",
        "_renewed",
        "_seen",
        "_seen_at",
        "_term",
    )

    def __init__(self, identity: str, *, address: str = "") -> None:
        self._identity = identity
        self._address = address
        self._seen = LeaseRecord()
        self._seen_at = 0.0
        self._looked_at = 0.0
        self._term: Term | None = None
        self._renewed = 0.0
        self._is_heir = True  # of a process before this one, until something else is seen

    def term(self, *, now: float) -> Term | None:
        """The term that this replica leads in now; None if it does not lead."""
        is_fresh = self._term is not None and now - self._renewed < RENEW_SECONDS
        return self._term if is_fresh else None

    @property
    def last_term(self) -> Term | None:
        """The term that this replica led in when it last heard of the Lease. It may be over since: who cannot
        reach the API server does not learn that another leads."""
        return self._term

    @property
    def leader_address(self) -> str:
        """Where another replica that leads serves agents; empty if none is known or it is this one, as when
        this one's predecessor served at the same place."""
        is_another = self._seen.holder not in ("", self._identity)
        return self._seen.address if is_another and self._seen.address != self._address else ""

    def see(self, record: LeaseRecord, *, now: float) -> None:
        """Take note of what the Lease says."""
        was_away = now - self._looked_at >= RENEW_SECONDS
        if record.hold != self._seen.hold or was_away:
            self._seen_at = now
        self._seen, self._looked_at = record, now
        if record.holder != self._identity:
            self._is_heir = False
        if record.holder != self._identity or not self._is_of_our_term(record):
            self._term = None

    def claim(self, *, used: int, renewed_at: str, now: float) -> LeaseRecord | None:
        """What to write in order to take or to keep the Lease; None while another has it.

        `used`: the highest number that this replica published or knows of.
        """
        seen = self._seen
        is_ours = seen.holder == self._identity and self._term is not None
        is_free = not seen.holder or self._is_heir or now - self._seen_at >= DURATION_SECONDS
        if not is_ours and not is_free:
            return None
        reserved = seen.reserved
        if not is_ours or used + TERM_SEQUENCES // 2 > reserved:
            reserved = max(reserved, used) + TERM_SEQUENCES
        return replace(
            seen,
            holder=self._identity,
            address=self._address,
            transitions=seen.transitions + (not is_ours),
            reserved=reserved,
            renewed_at=renewed_at,
        )

    def wrote(self, record: LeaseRecord, *, before: float, now: float) -> None:
        """The claim was written, and stands since `before` it was sent."""
        if self._term is None or self._term.token != record.transitions:
            first = record.reserved - TERM_SEQUENCES + 1
            self._term = Term(token=record.transitions, first=first, last=record.reserved)
        else:
            self._term = replace(self._term, last=record.reserved)
        self._seen, self._seen_at, self._looked_at, self._renewed = record, now, now, before
        self._is_heir = False

    def _is_of_our_term(self, record: LeaseRecord) -> bool:
        """False if somebody of our name took it since: two replicas were given one name."""
        return self._term is None or record.transitions == self._term.token

    def resign(self) -> Term | None:
        """Lead no more from now on; the term that is to be given up, if there is one."""
        term, self._term = self._term, None
        return term

    def given_up(self, found: LeaseRecord, term: Term) -> LeaseRecord | None:
        """What to write so that another need not wait; None if the Lease is another's by now."""
        if found.holder != self._identity or found.transitions != term.token:
            return None
        return replace(found, holder="")
