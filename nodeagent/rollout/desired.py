"""What a node's standing in a rollout means for its plan.

In:   Standing; the bundles whose generations are loaded
Out:  PlanInputs; the bundles to remember
Pure.

Holds always:
1. A promotion or a rollback changes neither the identities nor the addresses of the plan: only which of
   its generations is enforced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netpolicy.bundle import Bundle
from nodeagent.plan.inputs import PlanInputs
from nodeagent.rollout.channels import Channels, Standing


def to_remember(
    stand: Standing,
    channels: Channels,
    enforced: Bundle | None,
    *,
    loaded: Mapping[str, Bundle],
) -> Mapping[str, Bundle]:
    """Bundles by digest whose generations may come into force by a flip; `enforced` until now among them.

    Identities are planned for all of them, and they stay `loaded` until another bundle arrives: so no
    promotion changes what was observed.
    """
    needed = (stand.enforced, stand.watched, channels.stable, enforced)
    wanted = {bundle.digest: bundle for bundle in needed if bundle is not None}
    return loaded if wanted.keys() <= loaded.keys() else wanted


def with_policies(
    inputs: PlanInputs, stand: Standing, *, loaded: Mapping[str, Bundle]
) -> PlanInputs:
    """The inputs of a plan that does what the node's standing calls for."""
    others = (bundle for digest, bundle in loaded.items() if digest != stand.enforced.digest)
    return replace(
        inputs,
        policies=stand.enforced.policies,
        modes=stand.modes,
        has_preview=stand.has_preview,
        candidate=stand.beside.policies if stand.beside else None,
        candidate_is_former=stand.former is not None,
        remembered=tuple(policy for bundle in others for policy in bundle.policies),
    )
