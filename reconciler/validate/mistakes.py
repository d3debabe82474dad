"""Find what policies that are all valid are nevertheless unlikely to mean.

In:   policies as written and as compiled; the inventory, if there is one
Out:  warnings, sorted; and errors where a pod of the inventory is such that no node could enforce them
Pure; the memo only saves work. One check in each file beside this one. It looks at compiled policies, where
namespaces, defaults and entities are already written out, and points at their text.

Holds always:
1. A warning is certain: without an inventory it holds for whatever pods the cluster has.
2. What is remembered of a policy was found of the very same one among the very same others.
3. Work grows with the number of policies that may select the same pods, not with its square.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory
from netpolicy.rules import Unit
from reconciler.objects.policy import PolicyObject
from reconciler.validate.broad_blocks import (
    ClusterAddresses,
    check_broad_blocks,
    check_cluster_blocks,
)
from reconciler.validate.contradictions import check_contradictions
from reconciler.validate.l7_kinds import check_l7_kinds
from reconciler.validate.lifelines import (
    Lifeline,
    check_denied_names,
    check_lifelines,
    lifelines_in,
)
from reconciler.validate.name_service import check_name_service
from reconciler.validate.one_sided import check_one_sided
from reconciler.validate.port_names import DeclaredPorts, check_port_names
from reconciler.validate.shadows import check_shadows
from reconciler.validate.tls_on_pods import Pods, check_tls_on_pods
from reconciler.validate.tls_overlaps import CODE as TLS_OVERLAP
from reconciler.validate.tls_overlaps import check_tls_overlaps
from reconciler.validate.written import Written, WrittenIndex, WrittenMemo


class MistakeMemo:
    """What the last pass found of each policy, and which namespaces it looked into for that."""

    def __init__(self) -> None:
        self.written = WrittenMemo()
        self.index: WrittenIndex | None = None
        self.found: dict[int, _Found] = {}
        self._inventory: Inventory | None = None
        self._cluster = _cluster(None)

    def cluster(self, inventory: Inventory | None) -> _Cluster:
        """What the inventory tells; the very same object while the inventory is equal."""
        if inventory != self._inventory:
            self._inventory, self._cluster = inventory, _cluster(inventory)
        return self._cluster


@dataclass(frozen=True, slots=True, eq=False)
class _Cluster:
    """What checks look up in the inventory."""

    addresses: ClusterAddresses
    ports: DeclaredPorts
    lifelines: tuple[Lifeline, ...]
    pods: Pods


def _cluster(inventory: Inventory | None) -> _Cluster:
    return _Cluster(
        ClusterAddresses(inventory),
        DeclaredPorts(inventory),
        lifelines_in(inventory),
        Pods(inventory),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found of a policy. It is kept here so that no other can have its id meanwhile."""

    policy: Written
    consulted: frozenset[str]
    diagnostics: tuple[Diagnostic, ...]
    cluster: _Cluster
    in_cluster: tuple[Diagnostic, ...]


def find_mistakes(
    objects: Iterable[PolicyObject],
    units: Iterable[Unit],
    *,
    inventory: Inventory | None = None,
    memo: MistakeMemo | None = None,
) -> list[Diagnostic]:
    """Every such warning of an accepted revision, in the order an editor would list them."""
    memo = memo or MistakeMemo()
    written = memo.written.of_each(objects, (policy for unit in units for policy in unit.policies))
    index = WrittenIndex(written, memo.index)
    cluster = memo.cluster(inventory)
    found = list(check_lifelines(cluster.lifelines, index))
    fresh: dict[int, _Found] = {}
    for policy in written:
        fresh[id(policy)] = known = _found(policy, index, cluster, memo)
        found += known.diagnostics
        found += known.in_cluster
    memo.index, memo.found = index, fresh
    return sorted(
        _with_certain(found, check_tls_on_pods(written, index, cluster.pods)),
        key=lambda diagnostic: diagnostic.sort_key,
    )


def _with_certain(found: Iterable[Diagnostic], errors: Iterable[Diagnostic]) -> set[Diagnostic]:
    """What a known pod makes certain need not be warned of at the same place."""
    certain = set(errors)
    places = {error.place for error in certain}
    return certain | {one for one in found if one.code != TLS_OVERLAP or one.place not in places}


def _found(policy: Written, index: WrittenIndex, cluster: _Cluster, memo: MistakeMemo) -> _Found:
    """What is found of a policy: as before, if all that it depends on is."""
    kept = memo.found.get(id(policy))
    diagnostics, consulted = _among_others(policy, index, kept, memo)
    if kept is not None and kept.cluster is cluster:
        in_cluster = kept.in_cluster
    else:
        in_cluster = tuple(_check_in_cluster(policy, cluster))
    policy.text.document.compact()
    return _Found(policy, consulted, diagnostics, cluster, in_cluster)


def _among_others(
    policy: Written, index: WrittenIndex, kept: _Found | None, memo: MistakeMemo
) -> tuple[tuple[Diagnostic, ...], frozenset[str]]:
    """What is found of it and the other policies, and the namespaces that this depends on."""
    if kept is not None and memo.index and index.is_same_in(kept.consulted, memo.index):
        return kept.diagnostics, kept.consulted
    index.consulted.clear()
    diagnostics = tuple(_check(policy, index))
    return diagnostics, frozenset(index.consulted)


def _check_in_cluster(policy: Written, cluster: _Cluster) -> Iterator[Diagnostic]:
    yield from check_cluster_blocks(policy, cluster.addresses)
    yield from check_port_names(policy, cluster.ports)


def _check(policy: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    yield from check_contradictions(policy)
    yield from check_broad_blocks(policy)
    if policy.subject.empty_key is not None or policy.policy.selects_nodes:
        return
    yield from check_shadows(policy, index)
    yield from check_one_sided(policy, index)
    yield from check_name_service(policy, index)
    yield from check_denied_names(policy)
    yield from check_l7_kinds(policy, index)
    yield from check_tls_overlaps(policy, index)
