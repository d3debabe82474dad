"""What must be published for a rollout to stand where it stands.

In:   Rollout
Out:  Wanted: the stable revision, the candidate, and the nodes that enforce it
Pure.

Holds always:
1. The candidate is stable only when it was promoted; what was taken back is nowhere.
2. A halt changes nothing of what is published.
3. What takes a revision back says which: agents keep that word for a leader who does not know of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netpolicy.node_choice import NodeChoice
from reconciler.rollout.machine import HALTED, STAGES, TAKEN_BACK, Phase, Rollout
from reconciler.rollout.plan import LabelPairs, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Revisions by channel. Empty `candidate`: none is on its way.

    `canary_nodes`: which nodes enforce policies of mode `canary`. `confirm_seconds`: see Plan. `withdrawn`:
    the revision that this takes back.
    """

    stable: str
    candidate: str = ""
    nodes: NodeChoice = field(default_factory=NodeChoice)
    canary_nodes: LabelPairs = ()
    confirm_seconds: int = 0
    withdrawn: str = ""


def wanted(rollout: Rollout) -> Wanted:
    """What the rollout's phase calls for."""
    if rollout.phase in (Phase.PUBLISHED, Phase.PROMOTED):
        return _stable(rollout.revision, rollout.own_plan)
    if rollout.phase not in STAGES | HALTED:
        withdrawn = rollout.revision if rollout.phase in TAKEN_BACK else ""
        return _stable(rollout.stable, rollout.stable_plan, withdrawn=withdrawn)
    return Wanted(
        stable=rollout.stable,
        candidate=rollout.revision,
        nodes=rollout.plan.choice_at(rollout.stage, salt=rollout.revision),
        canary_nodes=rollout.plan.canary_nodes,
        confirm_seconds=rollout.plan.confirm_seconds,
    )


def _stable(revision: str, plan: Plan, *, withdrawn: str = "") -> Wanted:
    return Wanted(
        stable=revision,
        canary_nodes=plan.canary_nodes,
        confirm_seconds=plan.confirm_seconds,
        withdrawn=withdrawn,
    )
