"""Which event is due: what time, evidence and the windows say of a rollout.

In:   Rollout, the gates' Verdict, the way to Git, is the fleet done, `now`
Out:  the event to fold in, or None
Pure. The machine decides where events lead; this decides when they happen.

Holds always:
1. A failed gate, or a lost way to Git, is due at once, in every stage and every halt, soak or not.
2. Nothing moves forward before its soak, outside the windows, without a pass, or without an answer from
   Git to what it enforces already.
3. Missing evidence ends in a stop, never in a pass.
4. Nothing moves forward while it may not; what leads back is due all the same.
"""

from __future__ import annotations

from reconciler.rollout.events import (
    Abort,
    Cleared,
    Event,
    EvidenceMissing,
    FleetAcked,
    GateFailed,
    Held,
    LifelineLost,
    Resume,
    StagePassed,
    WaitedEnough,
)
from reconciler.rollout.gates import Answer, Verdict
from reconciler.rollout.lifeline import Lifeline
from reconciler.rollout.machine import STAGES, Phase, Rollout, allows
from reconciler.rollout.plan import Expiry, Promotion
from reconciler.rollout.windows import is_open, next_opening

OUTSIDE_WINDOWS = "outside the rollout windows"
GIT_IS_CUT = "Git has not answered since nodes enforce it"


def due(
    rollout: Rollout,
    verdict: Verdict,
    *,
    fleet_enforces: bool,
    now: float,
    lifeline: Lifeline = Lifeline.OPEN,
    may_advance: bool = True,
) -> Event | None:
    """The next event. `fleet_enforces`: every node took the latest publication; `may_advance`: something that
    was not enforced before may be published."""
    if lifeline is Lifeline.LOST and allows(rollout, LifelineLost):
        return LifelineLost(revision=rollout.revision, reason=GIT_IS_CUT)
    event = _by_phase(rollout, verdict, fleet_enforces=fleet_enforces, now=now)
    if not may_advance and isinstance(event, (StagePassed, Cleared)):
        return None
    is_forward = isinstance(event, StagePassed) or rollout.phase is Phase.PUBLISHED
    is_held = lifeline is not Lifeline.OPEN and is_forward and not isinstance(event, GateFailed)
    return None if is_held else event


def _by_phase(
    rollout: Rollout, verdict: Verdict, *, fleet_enforces: bool, now: float
) -> Event | None:
    match rollout.phase:
        case Phase.VALIDATED:
            return _beginning(rollout, now) or Held(
                revision=rollout.revision, reason=_held_by(rollout)
            )
        case Phase.WAITING:
            return _beginning(rollout, now)
        case Phase.INCONCLUSIVE:
            return _failed(rollout, verdict) or _after_missing(rollout, verdict, now)
        case Phase.PAUSED:
            return _failed(rollout, verdict) or _after_pause(rollout, now)
        case Phase.PUBLISHED:
            judged = rollout.plan.stages and _failed(rollout, verdict)
            return judged or _acked(rollout, fleet_enforces)
        case Phase.PROMOTED:
            return _failed(rollout, verdict) if rollout.stable else None
        case Phase.ROLLED_BACK:
            return _acked(rollout, fleet_enforces)
        case phase if phase in STAGES:
            return _failed(rollout, verdict) or _after_soak(rollout, verdict, now)
        case _:
            return None


def soak_left(rollout: Rollout, now: float) -> float:
    """Seconds that the stage has still to stand; its whole soak until it is published."""
    soak = rollout.plan.stages[rollout.stage].soak_seconds
    return soak if not rollout.sequence else max(0.0, rollout.since + soak - now)


def opens_at(rollout: Rollout, now: float) -> float | None:
    """When the window opens that the rollout waits for; None if it waits for none."""
    waits = rollout.phase is Phase.WAITING and not rollout.needs_approval
    if not (waits or rollout.phase in STAGES | {Phase.INCONCLUSIVE}):
        return None
    return next_opening(rollout.plan.windows, now)


def _beginning(rollout: Rollout, now: float) -> Event | None:
    may = not rollout.needs_approval and is_open(rollout.plan.windows, now)
    return Cleared(revision=rollout.revision) if may else None


def _held_by(rollout: Rollout) -> str:
    return rollout.reason if rollout.needs_approval else OUTSIDE_WINDOWS


def _failed(rollout: Rollout, verdict: Verdict) -> Event | None:
    if verdict.answer is not Answer.FAIL:
        return None
    return GateFailed(revision=rollout.revision, reason="; ".join(verdict.reasons))


def _after_soak(rollout: Rollout, verdict: Verdict, now: float) -> Event | None:
    if not rollout.sequence or soak_left(rollout, now) > 0:
        return None
    if verdict.answer is Answer.INCONCLUSIVE:
        return EvidenceMissing(revision=rollout.revision, reason="; ".join(verdict.reasons))
    return _forward(rollout, now)


def _after_missing(rollout: Rollout, verdict: Verdict, now: float) -> Event | None:
    if verdict.answer is Answer.PASS:
        return _forward(rollout, now)
    if now - rollout.since < rollout.plan.inconclusive_seconds:
        return None
    reason = f"inconclusive for too long: {'; '.join(verdict.reasons)}"
    return WaitedEnough(revision=rollout.revision, reason=reason)


def _forward(rollout: Rollout, now: float) -> Event | None:
    by_itself = rollout.plan.promotion is Promotion.AUTOMATIC
    if not by_itself or not is_open(rollout.plan.windows, now):
        return None
    return StagePassed(revision=rollout.revision)


def _after_pause(rollout: Rollout, now: float) -> Event | None:
    if now - rollout.since < rollout.plan.pause_seconds:
        return None
    event = Resume if rollout.plan.pause_then is Expiry.RESUME else Abort
    return event(revision=rollout.revision, reason="the pause expired")


def _acked(rollout: Rollout, fleet_enforces: bool) -> Event | None:
    return FleetAcked(revision=rollout.revision) if rollout.sequence and fleet_enforces else None
