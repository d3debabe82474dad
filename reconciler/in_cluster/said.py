"""What a PolicyRollout said of a rollout that is not over, for a leader who must go on with it.

In:   RolloutObject values
Out:  OnItsWay
Pure. A status may be outdated by the moment that its leader lived on: what it says then is an earlier stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from reconciler.cluster.kinds import RolloutObject
from reconciler.in_cluster.shown import seconds_of
from reconciler.rollout.carrying_on import OnItsWay
from reconciler.rollout.machine import HALTED, STAGES, Phase

ROUNDING_SECONDS: Final = 1.0
"""Times in a status are cut to whole seconds: no soak shall be shorter for that."""


def on_its_way(found: Iterable[RolloutObject], *, stable: str) -> OnItsWay | None:
    """The rollout that was to replace the enforced revision, and was neither promoted nor taken back."""
    said = [
        one
        for one in found
        if one.status.get("phase") in STAGES | HALTED
        and one.status.get("replaces") == stable
        and one.revision != stable
    ]
    newest = max(said, key=lambda one: (one.created, one.name), default=None)
    return _said_by(newest) if newest is not None else None


def _said_by(found: RolloutObject) -> OnItsWay:
    status = found.status
    is_published = bool(status.get("sequence"))
    return OnItsWay(
        revision=found.revision,
        stable=str(status["replaces"]),
        phase=Phase(status["phase"]),
        stage=int(status.get("stage", -1)),
        stages=tuple(map(str, status.get("stages", ()))),
        since=seconds_of(str(status.get("since", ""))) + ROUNDING_SECONDS if is_published else 0.0,
        reason=str(status.get("message", "")),
    )
