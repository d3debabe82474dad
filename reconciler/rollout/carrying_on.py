"""Go on with a rollout whose record was lost, from what was said of it in public.

In:   OnItsWay (what was said), the plan and content of the revision as they are compiled again
Out:  the Rollout where it stood, or None
Pure.

Holds always:
1. Only what is the same way still is gone on with: another plan, another stable revision, or a stage that
   the plan does not have, begins anew.
2. No soak is shortened: what was not published yet soaks from now on.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.rollout.machine import HALTED, PHASE_OF, STAGES, Phase, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class OnItsWay:
    """What was said of a rollout that is not over. `since`: as Rollout has it; 0: not published so yet.

    `stable`: what it was to replace; `stages`: the names of its plan's stages.
    """

    revision: str
    stable: str
    phase: Phase
    stage: int
    stages: tuple[str, ...]
    since: float = 0.0
    reason: str = ""


def carried_on(said: OnItsWay, fresh: Rollout, *, now: float) -> Rollout | None:
    """`fresh`, accepted anew, where the other one stood; None if it must begin anew."""
    stages = fresh.plan.stages
    is_the_same_way = (
        (said.revision, said.stable) == (fresh.revision, fresh.stable)
        and said.stages == tuple(stage.name for stage in stages)
        and 0 <= said.stage < len(stages)
        and said.phase in STAGES | HALTED
        and (said.phase in HALTED or PHASE_OF[stages[said.stage].kind] is said.phase)
    )
    if not is_the_same_way:
        return None
    return Rollout(
        revision=fresh.revision,
        phase=said.phase,
        since=min(said.since or now, now),
        stage=said.stage,
        digest=fresh.digest,
        stable=fresh.stable,
        plan=fresh.plan,
        own_plan=fresh.own_plan,
        stable_plan=fresh.stable_plan,
        expected=fresh.expected,
        reason=said.reason,
    )
