"""What the reconciler says of itself after each pass, as conditions.

In:   the outcome of a pass
Out:  Conditions
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from netpolicy.status import Condition, ConditionType, Reason


def ready(message: str) -> tuple[Condition, ...]:
    """The last revision is published."""
    return (
        Condition(type=ConditionType.READY, status=True, reason=Reason.SUCCEEDED, message=message),
    )


def not_ready(reason: str, message: str) -> tuple[Condition, ...]:
    """Something failed that a later pass may mend."""
    return (
        Condition(type=ConditionType.READY, status=False, reason=reason, message=message),
        Condition(
            type=ConditionType.RECONCILING,
            status=True,
            reason=Reason.PROGRESSING,
            message="trying again",
        ),
    )


def stalled(reason: str, message: str) -> tuple[Condition, ...]:
    """Nothing changes until somebody acts."""
    return (
        Condition(type=ConditionType.READY, status=False, reason=reason, message=message),
        Condition(type=ConditionType.STALLED, status=True, reason=reason, message=message),
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
