"""What the history says of one step.

In:   Rollout, the event's name, `now`
Out:  Entry; the phase as people read it
Pure.
"""

from __future__ import annotations

from reconciler.rollout.machine import Phase, Rollout
from reconciler.state.rollouts import Entry


def entry_of(rollout: Rollout, event: str, now: float, *, by: str = "") -> Entry:
    """A line of the history: the rollout as it stands after the event."""
    return Entry(
        at=now,
        revision=rollout.revision,
        event=event,
        phase=where(rollout),
        by=by,
        reason=rollout.reason,
    )


def where(rollout: Rollout) -> str:
    """The phase as people read it: waves by their share."""
    if rollout.phase is Phase.WAVE:
        return f"{rollout.phase} {rollout.plan.stages[rollout.stage].percent:g}%"
    return str(rollout.phase)
