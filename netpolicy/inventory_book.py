"""The inventory of what the API server has, worked out anew only for what changed.

In:   pods (all, or those that were touched), nodes, namespaces and services as kept by their caches
Out:  InventoryStep values; inventories are those that `kube_inventory.inventory_of` makes
Pure; the memory only saves work: of fifty thousand pods a few change at a time.

Holds always:
1. The answer is that of `inventory_of`, whatever came before.
2. What a step costs follows from what changed, but for copies of pointers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import replace
from typing import Generic, TypeVar

from netpolicy.inventory import Change, Inventory, InventoryStep, Node, Pod
from netpolicy.kube_inventory import addresses_not_of_pods, claim_of, leading_services
from netpolicy.kube_objects import KubePod
from netpolicy.services import ClusterService
from netpolicy.sorted_table import SortedTable

Key = tuple[str, str]
T = TypeVar("T")


class InventoryBook:
    """The pods of the last inventory, and what was found of all else."""

    __slots__ = (
        "_claims",
        "_nodes",
        "_not_of_pods",
        "_of_services",
        "_pods",
        "_resolved",
        "_services",
        "_sorted",
    )

    def __init__(self) -> None:
        self._pods: dict[Key, KubePod] = {}
        self._resolved: dict[Key, Pod] = {}
        self._sorted: SortedTable[Key, Pod] = SortedTable()
        self._claims = _Claims()
        self._nodes: _Answered[tuple[Node, ...]] = _Answered()
        self._not_of_pods: _Answered[frozenset[str]] = _Answered()
        self._of_services: _Answered[frozenset[str]] = _Answered()
        self._services: _Answered[tuple[ClusterService, ...]] = _Answered()

    def step(
        self,
        *,
        cluster: str,
        pods: Mapping[Key, KubePod | None],
        is_whole: bool,
        nodes: Iterable[Node],
        namespaces: Mapping[str, Mapping[str, str]],
        api_server: Iterable[str] = (),
        services: Iterable[ClusterService] = (),
    ) -> InventoryStep:
        """Go on to everything as it is now, sorted by name. `pods`, by namespace and name, are all there
        are; if not `is_whole`, those that may have changed, with None for one that is gone."""
        given, of_api_server = tuple(nodes), tuple(sorted(set(api_server)))
        before = self._not_of_pods.last
        not_of_pods = self._not_of_pods.to(
            (given, of_api_server), lambda: addresses_not_of_pods(given, of_api_server)
        )
        changed, gone = self._differences(pods, is_whole=is_whole)
        touched = self._claims.move(self._pods, changed, gone)
        for key in gone:
            del self._pods[key]
        self._pods.update(changed)
        disputed = self._claims.of(touched) if not_of_pods == before else self._pods.keys()
        change = self._resolve({*changed, *disputed}, gone, not_of_pods)
        return InventoryStep(
            pods=change,
            inventory=Inventory(
                cluster=cluster,
                nodes=self._nodes.to(given, lambda: _by_name(given)),
                namespaces=dict(sorted(namespaces.items())),
                pods=self._sorted.values(),
                api_server=of_api_server,
                services=self._leading(tuple(services), touched, not_of_pods),
            ),
        )

    def _differences(
        self, pods: Mapping[Key, KubePod | None], *, is_whole: bool
    ) -> tuple[dict[Key, KubePod], list[Key]]:
        """Those that are new or another object than before, and those that are gone."""
        known = self._pods
        # The same object, not an equal one: comparing would cost what is to be saved.
        changed = {
            key: pod for key, pod in pods.items() if pod is not None and known.get(key) is not pod
        }
        asked = known if is_whole else pods
        return changed, [key for key in asked if key in known and pods.get(key) is None]

    def _resolve(
        self, keys: Iterable[Key], gone: Collection[Key], not_of_pods: Set[str]
    ) -> Change[Pod]:
        """Give these pods the addresses that are theirs."""
        went, came = [self._resolved.pop(key) for key in gone], dict[Key, Pod]()
        for key in keys:
            pod, before = self._pods[key].pod, self._resolved.get(key)
            own = tuple(
                address
                for address in pod.addresses
                if address not in not_of_pods and self._claims.owner(address, self._pods) == key
            )
            whole = pod if len(own) == len(pod.addresses) else replace(pod, addresses=own)
            if before == whole:
                continue
            if before is not None:
                went.append(before)
            came[key] = self._resolved[key] = whole
        self._sorted.change(gone, came)
        return Change(gone=tuple(went), come=tuple(came.values()))

    def _leading(
        self, services: tuple[ClusterService, ...], touched: Set[str], not_of_pods: Set[str]
    ) -> tuple[ClusterService, ...]:
        """The services, each with the addresses that nobody else claims."""
        of_services = self._of_services.to(
            services, lambda: frozenset(each for one in services for each in one.addresses)
        )
        if not touched.isdisjoint(of_services):
            self._services.forget()
        return self._services.to(
            (services, not_of_pods),
            lambda: leading_services(
                services, lambda each: each in not_of_pods or self._claims.has(each)
            ),
        )


class _Claims:
    """Which pods claim each address."""

    __slots__ = ("_by_address",)

    def __init__(self) -> None:
        self._by_address: dict[str, frozenset[Key]] = {}

    def has(self, address: str) -> bool:
        """True if a pod claims it."""
        return address in self._by_address

    def of(self, addresses: Iterable[str]) -> set[Key]:
        """Whoever claims any of these."""
        return {key for each in addresses for key in self._by_address.get(each, ())}

    def owner(self, address: str, pods: Mapping[Key, KubePod]) -> Key:
        """Whose claim is the best."""
        claims = self._by_address[address]
        if len(claims) == 1:
            return next(iter(claims))
        return max(claims, key=lambda key: (claim_of(pods[key]), key))

    def move(
        self, before: Mapping[Key, KubePod], changed: Mapping[Key, KubePod], gone: Iterable[Key]
    ) -> set[str]:
        """Note what is claimed now; the addresses that somebody claims, or claimed."""
        touched: set[str] = set()
        for key in (*changed, *gone):
            for address in _claimed(before.get(key)):
                touched.add(address)
                left = self._by_address.pop(address) - {key}
                if left:
                    self._by_address[address] = left
            for address in _claimed(changed.get(key)):
                touched.add(address)
                self._by_address[address] = self._by_address.get(address, frozenset()) | {key}
        return touched


class _Answered(Generic[T]):
    """The answer to the last question, for as long as the question is the same."""

    __slots__ = ("_question", "last")

    def __init__(self) -> None:
        self._question: object = None
        self.last: T | None = None

    def to(self, question: object, answer: Callable[[], T]) -> T:
        """`answer` hangs on nothing but the question."""
        if self.last is None or question != self._question:
            self._question, self.last = question, answer()
        return self.last

    def forget(self) -> None:
        """The next question is another one."""
        self.last = None


def _by_name(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=lambda node: node.name))


def _claimed(pod: KubePod | None) -> tuple[str, ...]:
    return pod.pod.addresses if pod is not None else ()
