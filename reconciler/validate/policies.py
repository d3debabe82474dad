"""Judge what typed policies mean, alone and together.

In:   PolicyObject values, ValidationContext
Out:  diagnostics: errors refuse the revision, warnings are shown
Pure; the memo only saves work. One check in each file beside this one.

Holds always:
1. All faults of all policies are found in one pass.
2. What compiles without an error here has exactly one meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory
from reconciler.objects.memo import PolicyMemo
from reconciler.objects.policy import PolicyObject
from reconciler.validate.blocks import check_blocks
from reconciler.validate.context import ValidationContext
from reconciler.validate.duplicates import check_duplicates
from reconciler.validate.mixed_requests import check_mixed_requests
from reconciler.validate.mixed_tls import check_mixed_tls
from reconciler.validate.namespaces import check_namespace
from reconciler.validate.peers import check_peers
from reconciler.validate.ports import check_ports
from reconciler.validate.requests import check_requests, check_subject
from reconciler.validate.sections import check_sections
from reconciler.validate.selectors import MatchesAPod, check_selectors, pod_matcher


class ValidationMemo:
    """What was found of each policy in the last pass: by itself, and in its context."""

    def __init__(self) -> None:
        self.by_itself: PolicyMemo[tuple[Diagnostic, ...]] = PolicyMemo()
        self.in_context: PolicyMemo[tuple[Diagnostic, ...]] = PolicyMemo()
        self._inventory: Inventory | None = None
        self._matches_a_pod: MatchesAPod | None = None

    def pod_matcher(self, inventory: Inventory | None) -> MatchesAPod | None:
        """Whether a pod of the inventory matches; None without pods. Kept while it is equal."""
        if inventory != self._inventory:
            self._inventory = inventory
            self._matches_a_pod = pod_matcher(inventory) if inventory and inventory.pods else None
        return self._matches_a_pod


def validate(
    objects: Iterable[PolicyObject],
    *,
    context: ValidationContext | None = None,
    memo: ValidationMemo | None = None,
) -> list[Diagnostic]:
    """Every fault and warning of a set of policies, in the order an editor would list them."""
    context, memo = context or ValidationContext(), memo or ValidationMemo()
    policies = tuple(objects)
    inventory = context.inventory
    matches_a_pod = memo.pod_matcher(inventory)
    cluster = inventory.cluster if inventory else ""

    def check_in_context(policy: PolicyObject) -> tuple[Diagnostic, ...]:
        return tuple(_check_in_context(policy, context, matches_a_pod, cluster))

    found = [
        *check_duplicates(policies),
        *check_mixed_requests(policies),
        *check_mixed_tls(policies),
    ]
    for diagnostics in memo.by_itself.of_each(policies, _check_by_itself):
        found += diagnostics
    for diagnostics in memo.in_context.of_each(policies, check_in_context, context=context):
        found += diagnostics
    return sorted(found, key=lambda diagnostic: diagnostic.sort_key)


def _check_by_itself(policy: PolicyObject) -> tuple[Diagnostic, ...]:
    """What the policy's text alone tells: it is found once for a file that stays the same."""
    return tuple(_faults(policy))


def _faults(policy: PolicyObject) -> Iterator[Diagnostic]:
    yield from check_subject(policy)
    yield from check_sections(policy)
    for section in policy.sections:
        for rule in section.rules:
            yield from check_peers(policy, rule)
            yield from check_blocks(policy, rule)
            yield from check_ports(policy, rule)
            yield from check_requests(policy, section, rule)


def _check_in_context(
    policy: PolicyObject,
    context: ValidationContext,
    matches_a_pod: MatchesAPod | None,
    cluster: str,
) -> Iterator[Diagnostic]:
    """What depends on the repository's settings and on who is in the cluster."""
    yield from check_namespace(policy, context.ownership)
    yield from check_selectors(policy, matches_a_pod, cluster)
