"""The life of one revision: every phase, and the whole table of what leads where.

In:   Rollout, Event, now
Out:  the next Rollout, and the commands it calls for
Pure.

Holds always:
1. A revision is judged before it is published, and no stage counts before it is published.
2. An event of another revision than the rollout's own changes nothing.
3. What failed a gate, or cut the way to Git, leads back to what was enforced before, from every stage
   and every halt.
4. A revision that was taken back never moves again by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from reconciler.rollout.events import (
    Abort,
    Accepted,
    Approve,
    Cleared,
    Event,
    EvidenceMissing,
    FleetAcked,
    GateFailed,
    Held,
    LifelineLost,
    Pause,
    Promote,
    Published,
    Refused,
    Restored,
    Resume,
    StagePassed,
    Superseded,
    Undo,
    WaitedEnough,
)
from reconciler.rollout.expected import ExpectedDenial
from reconciler.rollout.plan import DIRECT, Plan, StageKind


class Phase(StrEnum):
    """Where a revision is."""

    FETCHED = "Fetched"
    VALIDATED = "Validated"
    REJECTED = "Rejected"
    WAITING = "Waiting"
    """Accepted, but outside the windows, or it deletes more than may go unasked."""
    SHADOW = "Shadow"
    CANARY = "Canary"
    WAVE = "Wave"
    INCONCLUSIVE = "Inconclusive"
    PAUSED = "Paused"
    PUBLISHED = "Published"
    """It is the stable policy; not every node enforces it yet."""
    PROMOTED = "Promoted"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"
    """What was stable before is published again; not every node enforces it yet."""
    QUARANTINED = "Quarantined"
    ABORTING = "Aborting"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"


STAGES: Final = frozenset({Phase.SHADOW, Phase.CANARY, Phase.WAVE})
HALTED: Final = frozenset({Phase.INCONCLUSIVE, Phase.PAUSED})
TAKING_BACK: Final = frozenset({Phase.ROLLING_BACK, Phase.ABORTING})
TAKEN_BACK: Final = TAKING_BACK | {Phase.ROLLED_BACK, Phase.QUARANTINED, Phase.ABORTED}
"""Never published again by itself; the next commit supersedes it."""
OVER: Final = frozenset(
    {Phase.REJECTED, Phase.PROMOTED, Phase.SUPERSEDED, Phase.ABORTED, Phase.QUARANTINED}
)
"""Nothing moves any more, unless somebody undoes it, or a promoted one turns out to cut nodes off."""

PHASE_OF: Final = {
    StageKind.SHADOW: Phase.SHADOW,
    StageKind.CANARY: Phase.CANARY,
    StageKind.WAVE: Phase.WAVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One revision's rollout.

    `since`: when the phase began or, once `sequence` is set, when it was published so; seconds since
    the epoch. `sequence`: the publication that says so (0: none yet). `stage`: index into the
    plan's stages, −1 before the first. `digest`: the bundle of its units. `stable`: the revision
    that is enforced without it, empty for the first ever; `reason`: why it is where it is.
    Of the plans, `plan` is what it is rolled out by, `stable_plan` and `own_plan` what the settings of
    either revision say, in force while that one is stable. `expected`: denials its intents declare.
    """

    revision: str
    phase: Phase = Phase.FETCHED
    since: float = 0.0
    sequence: int = 0
    stage: int = -1
    digest: str = ""
    stable: str = ""
    plan: Plan = DIRECT
    own_plan: Plan = DIRECT
    stable_plan: Plan = DIRECT
    expected: tuple[ExpectedDenial, ...] = ()
    needs_approval: bool = False
    reason: str = ""


class Turn(StrEnum):
    """Targets that depend on where in its plan the rollout stands."""

    FORWARD = "forward"
    """To the plan's next stage, or behind the last one to Published."""
    BACK_IN = "back in"
    """To the stage in which it was halted; its soak begins anew."""
    STAY = "stay"


class Command(StrEnum):
    """What the shell does on entering a phase. It may be repeated without harm."""

    PUBLISH = "publish"
    """Sign, save and announce what the phase calls for, unless that is announced already."""


Target = Phase | Turn


def _of_each_stage() -> dict[tuple[Phase, type[Event]], Target]:
    """What happens in the same way whether nodes observe or enforce."""
    one: dict[type[Event], Target] = {
        Published: Turn.STAY,
        StagePassed: Turn.FORWARD,
        EvidenceMissing: Phase.INCONCLUSIVE,
        GateFailed: Phase.ROLLING_BACK,
        LifelineLost: Phase.ROLLING_BACK,
        Promote: Turn.FORWARD,
        Pause: Phase.PAUSED,
        Abort: Phase.ABORTING,
        Superseded: Phase.SUPERSEDED,
    }
    return {(stage, event): target for stage in sorted(STAGES) for event, target in one.items()}


NEXT: Final[dict[tuple[Phase, type[Event]], Target]] = {
    (Phase.FETCHED, Accepted): Phase.VALIDATED,
    (Phase.FETCHED, Refused): Phase.REJECTED,
    (Phase.FETCHED, Superseded): Phase.SUPERSEDED,
    (Phase.VALIDATED, Cleared): Turn.FORWARD,
    (Phase.VALIDATED, Held): Phase.WAITING,
    (Phase.VALIDATED, Superseded): Phase.SUPERSEDED,
    (Phase.WAITING, Published): Turn.STAY,
    (Phase.WAITING, Cleared): Turn.FORWARD,
    (Phase.WAITING, Approve): Turn.STAY,
    (Phase.WAITING, Promote): Turn.FORWARD,
    (Phase.WAITING, Abort): Phase.ABORTING,
    (Phase.WAITING, Superseded): Phase.SUPERSEDED,
    **_of_each_stage(),
    (Phase.INCONCLUSIVE, Published): Turn.STAY,
    (Phase.INCONCLUSIVE, StagePassed): Turn.FORWARD,
    (Phase.INCONCLUSIVE, WaitedEnough): Phase.ROLLING_BACK,
    (Phase.INCONCLUSIVE, GateFailed): Phase.ROLLING_BACK,
    (Phase.INCONCLUSIVE, LifelineLost): Phase.ROLLING_BACK,
    (Phase.INCONCLUSIVE, Promote): Turn.FORWARD,
    (Phase.INCONCLUSIVE, Pause): Phase.PAUSED,
    (Phase.INCONCLUSIVE, Abort): Phase.ABORTING,
    (Phase.INCONCLUSIVE, Superseded): Phase.SUPERSEDED,
    (Phase.PAUSED, Published): Turn.STAY,
    (Phase.PAUSED, Resume): Turn.BACK_IN,
    (Phase.PAUSED, GateFailed): Phase.ROLLING_BACK,
    (Phase.PAUSED, LifelineLost): Phase.ROLLING_BACK,
    (Phase.PAUSED, Promote): Turn.FORWARD,
    (Phase.PAUSED, Abort): Phase.ABORTING,
    (Phase.PAUSED, Superseded): Phase.SUPERSEDED,
    (Phase.PUBLISHED, Published): Turn.STAY,
    (Phase.PUBLISHED, FleetAcked): Phase.PROMOTED,
    (Phase.PUBLISHED, GateFailed): Phase.ROLLING_BACK,
    (Phase.PUBLISHED, LifelineLost): Phase.ROLLING_BACK,
    (Phase.PUBLISHED, Undo): Phase.ROLLING_BACK,
    (Phase.PUBLISHED, Abort): Phase.ABORTING,
    (Phase.PUBLISHED, Superseded): Phase.SUPERSEDED,
    (Phase.PROMOTED, GateFailed): Phase.ROLLING_BACK,
    (Phase.PROMOTED, Undo): Phase.ROLLING_BACK,
    (Phase.SUPERSEDED, Undo): Phase.ROLLING_BACK,
    (Phase.ROLLING_BACK, Published): Phase.ROLLED_BACK,
    (Phase.ROLLED_BACK, FleetAcked): Phase.QUARANTINED,
    (Phase.ROLLED_BACK, Superseded): Phase.QUARANTINED,
    (Phase.ABORTING, Published): Phase.ABORTED,
    (Phase.SUPERSEDED, Restored): Phase.PROMOTED,
    (Phase.ROLLED_BACK, Restored): Phase.PROMOTED,
    (Phase.QUARANTINED, Restored): Phase.PROMOTED,
    (Phase.ABORTED, Restored): Phase.PROMOTED,
}

PUBLISHING: Final = STAGES | HALTED | TAKING_BACK | {Phase.PUBLISHED, Phase.WAITING}
"""On entering them what they call for is published, if it is not yet: while a rollout waits, what it
superseded is withdrawn; one that is paused before its stage got out stands in that stage all the same."""

ON_ENTRY: Final = dict.fromkeys(sorted(PUBLISHING), (Command.PUBLISH,))

_KEEP_REASON: Final = (Published, FleetAcked, Superseded, Approve)
"""They say nothing of why the rollout is where it is."""


def allows(rollout: Rollout, kind: type[Event]) -> bool:
    """True if the table has this event in the rollout's phase."""
    if kind in (Abort, LifelineLost) and not rollout.stable:
        return False  # nothing was enforced before it
    return (rollout.phase, kind) in NEXT


def step(rollout: Rollout, event: Event, *, now: float) -> tuple[Rollout, tuple[Command, ...]]:
    """Fold one event in; return the new state and the commands it calls for.

    Events of other revisions, and what the table does not have once the rollout is over, are
    dropped. Any other missing pair is a bug and raises KeyError.
    """
    pair = (rollout.phase, type(event))
    if event.revision != rollout.revision or (rollout.phase in OVER and pair not in NEXT):
        return rollout, ()
    moved = _with_content(_moved(rollout, NEXT[pair]), event)
    reason = rollout.reason if isinstance(event, _KEEP_REASON) else getattr(event, "reason", "")
    moved = replace(moved, since=now, reason=reason)
    if moved.phase is rollout.phase and moved.stage == rollout.stage:
        return moved, ()
    return moved, ON_ENTRY.get(moved.phase, ())


def _moved(rollout: Rollout, target: Target) -> Rollout:
    match target:
        case Phase():
            return _entered(rollout, target)
        case Turn.FORWARD:
            stage = rollout.stage + 1
            if stage >= len(rollout.plan.stages):
                return _entered(rollout, Phase.PUBLISHED)
            kind = rollout.plan.stages[stage].kind
            return _entered(replace(rollout, stage=stage), PHASE_OF[kind])
        case Turn.BACK_IN:
            return _entered(rollout, PHASE_OF[rollout.plan.stages[rollout.stage].kind])
        case Turn.STAY:
            return rollout
    assert_never(target)


def _entered(rollout: Rollout, phase: Phase) -> Rollout:
    """In a phase that must be published first, no publication counts yet."""
    sequence = 0 if phase in PUBLISHING else rollout.sequence
    return replace(rollout, phase=phase, sequence=sequence)


def _with_content(rollout: Rollout, event: Event) -> Rollout:
    match event:
        case Accepted():
            return replace(
                rollout,
                digest=event.digest,
                stable=event.stable,
                plan=event.plan,
                own_plan=event.own_plan,
                stable_plan=event.stable_plan,
                expected=event.expected,
                needs_approval=event.needs_approval,
            )
        case Published():
            return replace(rollout, sequence=event.sequence)
        case Approve() | Promote():
            return replace(rollout, needs_approval=False)
        case Undo():
            return replace(rollout, stable=event.to, stable_plan=event.to_plan)
        case _:
            return rollout
