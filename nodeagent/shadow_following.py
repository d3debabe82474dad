"""Which shadows a plan has, as those who count them must know it.

In:   Channels, Standing, NodePlan
Out:  Followed values
Pure.
"""

from __future__ import annotations

from dataclasses import replace

from netpolicy.evidence import Role, Shadow
from nodeagent.plan.generation import Generation
from nodeagent.plan.node_plan import NodePlan
from nodeagent.rollout.channels import Channels, Standing
from nodeagent.rollout.tally import Enforced, Names, names_of
from nodeagent.shadow_watch import Followed


def followed(
    shadow: Shadow, channels: Channels | None, stand: Standing | None, plan: NodePlan
) -> Followed | None:
    """A shadow as the plan has it; None if there is none."""
    if channels is None or stand is None:
        return None
    if shadow is Shadow.PREVIEW:
        return _preview(stand, plan)
    return _candidate(channels, stand, plan)


def _candidate(channels: Channels, stand: Standing, plan: NodePlan) -> Followed | None:
    """Watched, enforced, or neither."""
    if channels.candidate is None:
        return None
    beside = plan.candidate
    is_enforced = stand.role is Role.ENFORCING
    ahead = plan.generation if is_enforced else beside
    names = _names(plan, beside) if beside else None
    return Followed(
        bundle_digest=channels.candidate.digest,
        generation_digest=ahead.digest if ahead else "",
        role=stand.role,
        names=replace(names, enforced=_enforced(plan)) if names and is_enforced else names,
        error=stand.error,
    )


def _preview(stand: Standing, plan: NodePlan) -> Followed | None:
    if plan.preview is None:
        return None
    return Followed(
        bundle_digest=stand.enforced.digest,
        generation_digest=plan.preview.digest,
        role=Role.SHADOW,
        names=_names(plan, plan.preview),
    )


def _enforced(plan: NodePlan) -> Enforced:
    endpoints = {one.identity: one.endpoint_id for one in plan.endpoints}
    return Enforced(generation=plan.generation, endpoints=endpoints)


def _names(plan: NodePlan, watched: Generation) -> Names:
    return names_of(plan.identities, plan.owners.values(), watched.attributions)
