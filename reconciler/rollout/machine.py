"""The life of one revision: every phase, every event, and the whole table.

In:   Rollout, Event, now
Out:  the next Rollout, and the commands it calls for
Pure.

Holds always:
1. A revision is judged before it is signed, and signed before it is announced.
2. An event of another revision than the rollout's own changes nothing.
3. A final phase is left only by a new revision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """Where a revision is."""

    FETCHED = "Fetched"
    VALIDATED = "Validated"
    REJECTED = "Rejected"
    PUBLISHED = "Published"
    PROMOTED = "Promoted"
    SUPERSEDED = "Superseded"


FINAL: Final = frozenset({Phase.REJECTED, Phase.PROMOTED, Phase.SUPERSEDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One revision's rollout. `since` is when the phase began, in seconds since the epoch."""

    revision: str
    phase: Phase = Phase.FETCHED
    since: float = 0.0
    sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """No diagnostic refuses the revision."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """At least one diagnostic refuses the revision."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The revision is signed and stored as publication `sequence`."""

    revision: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAcked:
    """Every node of the fleet enforces the publication."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A newer revision was fetched before this one was enforced everywhere."""

    revision: str


Event = Accepted | Refused | Signed | FleetAcked | Superseded


class Command(StrEnum):
    """What the shell does on entering a phase. Each may be repeated without harm."""

    SIGN = "sign"
    ANNOUNCE = "announce"


NEXT: Final[dict[tuple[Phase, type[Event]], Phase]] = {
    (Phase.FETCHED, Accepted): Phase.VALIDATED,
    (Phase.FETCHED, Refused): Phase.REJECTED,
    (Phase.FETCHED, Superseded): Phase.SUPERSEDED,
    (Phase.VALIDATED, Signed): Phase.PUBLISHED,
    (Phase.VALIDATED, Superseded): Phase.SUPERSEDED,
    (Phase.PUBLISHED, FleetAcked): Phase.PROMOTED,
    (Phase.PUBLISHED, Superseded): Phase.SUPERSEDED,
}

ON_ENTRY: Final[dict[Phase, tuple[Command, ...]]] = {
    Phase.VALIDATED: (Command.SIGN,),
    Phase.PUBLISHED: (Command.ANNOUNCE,),
}


def step(rollout: Rollout, event: Event, *, now: float) -> tuple[Rollout, tuple[Command, ...]]:
    """Fold one event in; return the new state and the commands it calls for.

    Events of other revisions, and any event in a final phase, are dropped. A missing pair in the
    table is a bug and raises KeyError.
    """
    if event.revision != rollout.revision or rollout.phase in FINAL:
        return rollout, ()
    phase = NEXT[rollout.phase, type(event)]
    sequence = event.sequence if isinstance(event, Signed) else rollout.sequence
    moved = replace(rollout, phase=phase, since=now, sequence=sequence)
    return moved, ON_ENTRY.get(phase, ())
