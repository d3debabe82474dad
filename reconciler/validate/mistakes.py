"""Find what policies that are all valid are nevertheless unlikely to mean.

In:   policies as written and as compiled; the inventory, if there is one
Out:  warnings, sorted
Pure. One check in each file beside this one. It looks at compiled policies, where namespaces, defaults and
entities are already written out, and points at their text.

Holds always:
1. A warning is certain: without an inventory it holds for whatever pods the cluster has.
2. Work grows with the number of policies that may select the same pods, not with its square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory
from netpolicy.rules import Unit
from reconciler.objects.policy import PolicyObject
from reconciler.validate.broad_blocks import ClusterAddresses, check_broad_blocks
from reconciler.validate.contradictions import check_contradictions
from reconciler.validate.l7_kinds import check_l7_kinds
from reconciler.validate.lifelines import check_denied_names, check_lifelines
from reconciler.validate.name_service import check_name_service
from reconciler.validate.one_sided import check_one_sided
from reconciler.validate.shadows import check_shadows
from reconciler.validate.written import Written, WrittenIndex, written_policies


def find_mistakes(
    objects: Iterable[PolicyObject],
    units: Iterable[Unit],
    *,
    inventory: Inventory | None = None,
) -> list[Diagnostic]:
    """Every such warning of an accepted revision, in the order an editor would list them."""
    policies = [policy for unit in units for policy in unit.policies]
    written = written_policies(objects, policies)
    index = WrittenIndex(written)
    cluster = ClusterAddresses(inventory)
    found = list(check_lifelines(index))
    for policy in written:
        found += check_contradictions(policy)
        found += check_broad_blocks(policy, cluster)
        if policy.subject.empty_key is None and not policy.policy.selects_nodes:
            found += _among_others(policy, index)
    return sorted(set(found), key=lambda diagnostic: diagnostic.sort_key)


def _among_others(policy: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    """What is wrong with a policy because of what other policies say."""
    yield from check_shadows(policy, index)
    yield from check_one_sided(policy, index)
    yield from check_name_service(policy, index)
    yield from check_denied_names(policy)
    yield from check_l7_kinds(policy, index)
