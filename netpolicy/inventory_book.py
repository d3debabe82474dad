"""The inventory of what the API server has, worked out anew only for pods that changed.

In:   pods, nodes, namespaces and services as kept by their caches, again and again
Out:  Inventory values, as `kube_inventory.inventory_of` makes them
Pure; the memory only saves work: of fifty thousand pods a few change at a time.

Holds always:
1. The answer is that of `inventory_of`, whatever came before.
2. A pod that is the same keeps its very object, by which later stages see that it did not change.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.kube_inventory import addresses_not_of_pods, claim_of, leading_services
from netpolicy.kube_objects import KubePod
from netpolicy.services import ClusterService

Key = tuple[str, str]

FEW: Final = 500
"""Up to so many pods that come or go find their place one by one; more are sorted."""


class InventoryBook:
    """The pods of the last inventory, and who claims each address."""

    __slots__ = ("_claims", "_keys", "_not_of_pods", "_pods", "_resolved")

    def __init__(self) -> None:
        self._pods: dict[Key, KubePod] = {}
        self._keys: list[Key] = []
        self._resolved: dict[Key, Pod] = {}
        self._claims: dict[str, frozenset[Key]] = {}
        self._not_of_pods: frozenset[str] = frozenset()

    def inventory(
        self,
        *,
        cluster: str,
        pods: Mapping[Key, KubePod],
        nodes: Iterable[Node],
        namespaces: Mapping[str, Mapping[str, str]],
        api_server: Iterable[str] = (),
        services: Iterable[ClusterService] = (),
    ) -> Inventory:
        """Everything, sorted by name; `pods` by namespace and name."""
        sorted_nodes = tuple(sorted(nodes, key=lambda node: node.name))
        of_api_server = tuple(sorted(set(api_server)))
        not_of_pods = addresses_not_of_pods(sorted_nodes, of_api_server)
        self._take(pods, not_of_pods)
        return Inventory(
            cluster=cluster,
            nodes=sorted_nodes,
            namespaces=dict(sorted(namespaces.items())),
            pods=tuple(map(self._resolved.__getitem__, self._keys)),
            api_server=of_api_server,
            services=leading_services(
                services, lambda each: each in not_of_pods or each in self._claims
            ),
        )

    def _take(self, pods: Mapping[Key, KubePod], not_of_pods: frozenset[str]) -> None:
        before = self._pods
        # The same object, not an equal one: comparing would cost what is to be saved.
        changed = [key for key, pod in pods.items() if before.get(key) is not pod]
        gone = [key for key in before if key not in pods]
        touched = {
            address
            for key in (*changed, *gone)
            for address in _claimed(before.get(key), pods.get(key))
        }
        for key in (*changed, *gone):
            self._claim_anew(key, before.get(key), pods.get(key))
        disputed = {each for address in touched for each in self._claims.get(address, ())}
        self._sort(gone, [key for key in changed if key not in before])
        self._pods = dict(pods)
        if not_of_pods != self._not_of_pods:
            self._not_of_pods = not_of_pods
            disputed.update(pods)
        self._resolve({*changed, *disputed})
        for key in gone:
            del self._resolved[key]

    def _claim_anew(self, key: Key, before: KubePod | None, now: KubePod | None) -> None:
        for address in before.pod.addresses if before is not None else ():
            left = self._claims[address] - {key}
            if left:
                self._claims[address] = left
            else:
                del self._claims[address]
        for address in now.pod.addresses if now is not None else ():
            self._claims[address] = self._claims.get(address, frozenset()) | {key}

    def _sort(self, gone: Collection[Key], new: Collection[Key]) -> None:
        if len(gone) + len(new) > FEW:
            self._keys = sorted({*self._keys, *new}.difference(gone))
            return
        for key in gone:
            del self._keys[bisect_left(self._keys, key)]
        for key in new:
            insort(self._keys, key)

    def _resolve(self, keys: Iterable[Key]) -> None:
        """Give these pods the addresses that are theirs."""
        for key in keys:
            pod = self._pods[key].pod
            own = tuple(address for address in pod.addresses if self._owner(address) == key)
            whole = pod if len(own) == len(pod.addresses) else replace(pod, addresses=own)
            if self._resolved.get(key) != whole:
                self._resolved[key] = whole

    def _owner(self, address: str) -> Key | None:
        """Whose an address is; None: no pod's."""
        if address in self._not_of_pods:
            return None
        claims = self._claims[address]
        if len(claims) == 1:
            return next(iter(claims))
        return max(claims, key=lambda key: (claim_of(self._pods[key]), key))


def _claimed(*pods: KubePod | None) -> Iterable[str]:
    return (address for each in pods if each is not None for address in each.pod.addresses)
