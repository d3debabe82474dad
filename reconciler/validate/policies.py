"""Judge what typed policies mean, alone and together.

In:   PolicyObject values, ValidationContext
Out:  diagnostics: errors refuse the revision, warnings are shown
Pure. One check in each file beside this one.

Holds always:
1. All faults of all policies are found in one pass.
2. What compiles without an error here has exactly one meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netpolicy.errors import Diagnostic
from reconciler.objects.policy import PolicyObject
from reconciler.validate.blocks import check_blocks
from reconciler.validate.context import ValidationContext
from reconciler.validate.duplicates import check_duplicates
from reconciler.validate.namespaces import check_namespace
from reconciler.validate.peers import check_peers
from reconciler.validate.ports import check_ports
from reconciler.validate.sections import check_sections
from reconciler.validate.selectors import MatchesAPod, check_selectors, pod_matcher


def validate(
    objects: Iterable[PolicyObject], *, context: ValidationContext | None = None
) -> list[Diagnostic]:
    """Every fault and warning of a set of policies, in the order an editor would list them."""
    context = context or ValidationContext()
    policies = tuple(objects)
    inventory = context.inventory
    matches_a_pod = pod_matcher(inventory) if inventory and inventory.pods else None
    cluster = inventory.cluster if inventory else ""
    found = list(check_duplicates(policies))
    for policy in policies:
        found += _check_policy(policy, context, matches_a_pod, cluster)
    return sorted(found, key=lambda diagnostic: diagnostic.sort_key)


def _check_policy(
    policy: PolicyObject,
    context: ValidationContext,
    matches_a_pod: MatchesAPod | None,
    cluster: str,
) -> Iterator[Diagnostic]:
    yield from check_namespace(policy, context.ownership)
    yield from check_sections(policy)
    yield from check_selectors(policy, matches_a_pod, cluster)
    for section in policy.sections:
        for rule in section.rules:
            yield from check_peers(policy, rule)
            yield from check_blocks(policy, rule)
            yield from check_ports(policy, rule)
