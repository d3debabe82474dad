"""What can happen to a rollout: values only. Where each leads says `machine`, and nothing else.

In:   made by `progress` (time and evidence), by whom people ask, and by what was published
Out:  folded in by `machine.step`
Pure.

Holds always:
1. Every event names the revision that it is about, so that one that comes late changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.rollout.expected import ExpectedDenial
from reconciler.rollout.plan import DIRECT, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """No diagnostic refuses the revision; `stable` is what it would replace."""

    revision: str
    digest: str = ""
    stable: str = ""
    plan: Plan = DIRECT
    own_plan: Plan = DIRECT
    stable_plan: Plan = DIRECT
    expected: tuple[ExpectedDenial, ...] = ()
    needs_approval: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """At least one diagnostic refuses the revision."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """It may not begin yet."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """It may begin."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the phase calls for is signed and stored as publication `sequence`."""

    revision: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePassed:
    """The soak is over and every gate passes."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFailed:
    """A gate refuses the revision."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifelineLost:
    """The reconciler's way to Git is gone since nodes enforce the revision."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceMissing:
    """The soak is over, and too little was seen to tell."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitedEnough:
    """The evidence that was missing did not come in time."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAcked:
    """Every node of the fleet enforces the publication."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A newer revision takes its place."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve:
    """Somebody allows what it deletes."""

    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Somebody moves it one stage on, whatever the soak, the windows or missing evidence say."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Somebody halts it where it stands."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Somebody, or the end of its pause, lets it go on."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Somebody, or the end of its pause, withdraws it."""

    revision: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Somebody takes back what is stable; `to` is enforced instead."""

    revision: str
    to: str
    to_plan: Plan = DIRECT
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Somebody went back to it: it is stable again, whatever became of it before."""

    revision: str


Event = (
    Accepted
    | Refused
    | Held
    | Cleared
    | Published
    | StagePassed
    | GateFailed
    | LifelineLost
    | EvidenceMissing
    | WaitedEnough
    | FleetAcked
    | Superseded
    | Approve
    | Promote
    | Pause
    | Resume
    | Abort
    | Undo
    | Restored
)
