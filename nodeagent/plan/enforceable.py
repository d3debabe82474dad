"""What this agent's kernel side can enforce; a bundle that needs more is refused whole.

In:   the policies of a bundle
Out:  nothing, or RejectedBundle naming what cannot be enforced and for which rules
Pure.

Holds always:
1. No rule is loaded in part: what it asks for is enforced, or the bundle that holds it is not taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from netpolicy.capabilities import ENFORCEABLE, Capability, needed
from netpolicy.errors import RejectedBundle
from netpolicy.rules import Policy

CAPABILITIES: Final = frozenset(
    {Capability.L4, Capability.NAMED_PORTS, Capability.NODE_LABELS, Capability.SERVICES}
)
"""What every agent of this version announces, and what its plans can hold."""
WITH_PROXY: Final = CAPABILITIES | {
    Capability.HTTP,
    Capability.RATE_LIMITS,
    Capability.SERVER_NAMES,
}
"""And what those do that run an Envoy."""
WITH_SECRETS: Final = ENFORCEABLE
"""And those whose Envoy is given secrets: elsewhere a rule that names one could let nothing pass."""

UNSUPPORTED_RULE: Final = "UnsupportedRule"
_NAMED: Final = 3


def capabilities(*, proxy: bool, secrets: bool) -> frozenset[Capability]:
    """What an agent can do, with an Envoy and a folder of secrets or without."""
    if not proxy:
        return CAPABILITIES
    return WITH_SECRETS if secrets else WITH_PROXY


def refuse_unenforceable(
    policies: Iterable[Policy], capabilities: frozenset[Capability] = CAPABILITIES
) -> None:
    """Raise RejectedBundle if any policy asks for what this agent cannot do."""
    lacking = {
        capability: rules
        for capability, rules in needed(policies).items()
        if capability not in capabilities
    }
    if not lacking:
        return
    parts = []
    for capability, rules in lacking.items():
        others = f" and {len(rules) - _NAMED} more" if len(rules) > _NAMED else ""
        parts.append(f"{capability} ({', '.join(map(str, rules[:_NAMED]))}{others})")
    raise RejectedBundle(f"this agent cannot enforce: {'; '.join(parts)}", reason=UNSUPPORTED_RULE)
