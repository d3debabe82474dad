"""What the reconciler says of itself after each pass, as conditions.

In:   the outcome of a pass, the rollout
Out:  Conditions
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from netpolicy.status import Condition, ConditionType, Reason
from reconciler.rollout.gates import number_of
from reconciler.rollout.machine import STAGES, TAKEN_BACK, Phase, Rollout
from reconciler.state.judgements import Judgement

_HALTS: Final = {
    Phase.WAITING: Reason.ROLLOUT_WAITING,
    Phase.PAUSED: Reason.ROLLOUT_PAUSED,
    Phase.INCONCLUSIVE: Reason.INCONCLUSIVE,
}


def ready(message: str) -> tuple[Condition, ...]:
    """The last revision is published."""
    return (
        Condition(type=ConditionType.READY, status=True, reason=Reason.SUCCEEDED, message=message),
    )


def of_rollout(
    judged: Judgement | None,
    rollout: Rollout | None,
    *,
    stable: str,
    sequence: int,
    differing: Sequence[str] = (),
    gone_back: Sequence[str] = (),
    revert_trouble: str = "",
) -> tuple[Condition, ...]:
    """How things stand after a pass that came through.

    `differing`: nodes that do not enforce the very generation they observed. `gone_back`: nodes that took
    the publication back by themselves. `revert_trouble`: why the revert branch is not pushed.
    """
    if judged is not None and not judged.accepted:
        message = (
            f"{judged.revision} is refused with {number_of(len(judged.diagnostics), 'diagnostic')}"
        )
        return stalled(Reason.VALIDATION_FAILED, message)
    if rollout is None or not stable:
        return not_ready(Reason.PROGRESSING, "nothing is published yet")
    doubt = (
        f"; {', '.join(differing)} enforce another generation than observed" if differing else ""
    )
    enforced = f"{stable} is published as {sequence}{doubt}"
    why = f": {rollout.reason}" if rollout.reason else ""
    where = f"{rollout.revision} is {rollout.phase}{why}; {enforced}"
    if rollout.phase in TAKEN_BACK:
        unreverted = f"{where}; {revert_trouble}" if revert_trouble else where
        is_aborted = rollout.phase in (Phase.ABORTING, Phase.ABORTED)
        return stalled(Reason.ROLLOUT_ABORTED if is_aborted else Reason.ROLLED_BACK, unreverted)
    if rollout.phase in STAGES | _HALTS.keys():
        reason = _HALTS.get(rollout.phase, Reason.PROGRESSING)
        return (*ready(enforced), _reconciling(reason, where))
    if gone_back:
        # Only a newer publication ends it, and nobody but a person knows what it should say.
        message = (
            f"{', '.join(gone_back)} went back from {sequence} and wait for a newer publication"
        )
        return (*ready(enforced), _is_stalled(Reason.NODES_WENT_BACK, message))
    return ready(enforced)


def not_ready(reason: str, message: str) -> tuple[Condition, ...]:
    """Something failed that a later pass may mend."""
    return (
        Condition(type=ConditionType.READY, status=False, reason=reason, message=message),
        _reconciling(Reason.PROGRESSING, "trying again"),
    )


def stalled(reason: str, message: str) -> tuple[Condition, ...]:
    """Nothing changes until somebody acts."""
    return (
        Condition(type=ConditionType.READY, status=False, reason=reason, message=message),
        _is_stalled(reason, message),
    )


def _is_stalled(reason: str, message: str) -> Condition:
    return Condition(type=ConditionType.STALLED, status=True, reason=reason, message=message)


def _reconciling(reason: str, message: str) -> Condition:
    return Condition(type=ConditionType.RECONCILING, status=True, reason=reason, message=message)


def asking(seconds: float) -> tuple[Condition, ...]:
    """Nothing is known of what nodes enforce: their agents are asked first, for so long at most."""
    return (
        Condition(
            type=ConditionType.READY,
            status=False,
            reason=Reason.PROGRESSING,
            message="nothing is published yet",
        ),
        _reconciling(
            Reason.PROGRESSING,
            f"waits until each node's agent has said what it enforces, for {seconds:g} seconds at most",
        ),
    )


def with_times(
    conditions: Iterable[Condition], before: Iterable[Condition], *, now: float
) -> tuple[Condition, ...]:
    """Keep the time of a condition whose status did not change; date the others now."""
    since = {(c.type, c.status): c.since for c in before}
    return tuple(
        Condition(
            type=c.type,
            status=c.status,
            reason=c.reason,
            message=c.message,
            since=since.get((c.type, c.status), now),
        )
        for c in conditions
    )
