"""What stands behind each address, worked out anew only for what changed.

In:   one inventory after another
Out:  AddressEntry values, as `inventory.address_entries` gives them
Pure; the memory only saves work: of fifty thousand pods a few change at a time.

Holds always:
1. The answer is that of `address_entries`, whatever came before.
2. What stands behind an address as before is the very object that it was.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Final

from netpolicy.inventory import (
    AddressEntry,
    Inventory,
    Pod,
    address_entries,
    labels_of,
    pod_entries,
    service_entries,
)
from netpolicy.labels import Labels
from netpolicy.services import ClusterService

_SortKey = tuple[str, str, str]
_Entries = tuple[AddressEntry, ...]
_LabelKey = tuple[object, ...]

FEW: Final = 500
"""Up to so many entries that come or go find their place one by one; more are sorted."""


class AddressBook:
    """The entries of the last inventory. Pods, services and nodes that are the same objects are the same."""

    __slots__ = ("_entries_of", "_last", "_of_nodes", "_sorted")

    def __init__(self) -> None:
        self._last = Inventory()
        self._entries_of: dict[int, tuple[Pod | ClusterService, _Entries]] = {}
        self._of_nodes: _Entries = ()
        self._sorted: list[AddressEntry] = []

    def entries(self, inventory: Inventory) -> _Entries:
        """Every address of the cluster, sorted."""
        self._forget_what_changed_around(inventory)
        known = self._entries_of
        listed: tuple[Pod | ClusterService, ...] = (*inventory.pods, *inventory.services)
        now = dict(zip(map(id, listed), listed, strict=True))
        gone = [known.pop(number) for number in known.keys() - now.keys()]
        new = self._read(inventory, [now[number] for number in now.keys() - known.keys()])
        removed = [entry for _, entries in gone for entry in entries]
        added = [entry for _, entries in new for entry in entries]
        nodes_gone, nodes_new = self._take_nodes(inventory)
        self._place([*removed, *nodes_gone], [*added, *nodes_new])
        self._last = inventory
        return tuple(self._sorted)

    def _forget_what_changed_around(self, inventory: Inventory) -> None:
        """Pods whose cluster or namespace is not what it was are as good as new."""
        before, now = self._last.namespaces, inventory.namespaces
        if inventory.cluster != self._last.cluster:
            changed = {*before, *now, *(pod.namespace for pod in self._last.pods)}
        else:
            names = before.keys() | now.keys()
            changed = {name for name in names if before.get(name) != now.get(name)}
        if not changed:
            return
        lost = [
            number
            for number, (one, _) in self._entries_of.items()
            if isinstance(one, Pod) and one.namespace in changed
        ]
        self._place([entry for each in lost for entry in self._entries_of.pop(each)[1]], [])

    def _read(
        self, inventory: Inventory, new: Iterable[Pod | ClusterService]
    ) -> list[tuple[Pod | ClusterService, _Entries]]:
        """The entries of these, remembered; pods alike share their labels."""
        alike: dict[_LabelKey, Labels] = {}
        found: list[tuple[Pod | ClusterService, _Entries]] = []
        for one in new:
            entries = (
                _entries_of_pod(inventory, one, alike)
                if isinstance(one, Pod)
                else service_entries(one)
            )
            self._entries_of[id(one)] = (one, entries)
            found.append((one, entries))
        return found

    def _take_nodes(self, inventory: Inventory) -> tuple[_Entries, _Entries]:
        """The entries of nodes and the API server: those that go, those that come."""
        last = self._last
        if (inventory.nodes, inventory.api_server) == (last.nodes, last.api_server):
            return (), ()
        before = {_sort_key(entry): entry for entry in self._of_nodes}
        fresh = address_entries(replace(inventory, pods=(), services=()))
        now = tuple(
            known if (known := before.get(_sort_key(entry))) == entry and known else entry
            for entry in fresh
        )
        self._of_nodes = now
        kept, were = set(map(id, now)), set(map(id, before.values()))
        return (
            tuple(entry for entry in before.values() if id(entry) not in kept),
            tuple(entry for entry in now if id(entry) not in were),
        )

    def _place(self, removed: Collection[AddressEntry], added: Collection[AddressEntry]) -> None:
        if len(removed) + len(added) > FEW:
            gone = set(map(id, removed))
            left = [entry for entry in self._sorted if id(entry) not in gone]
            self._sorted = sorted([*left, *added], key=_sort_key)
            return
        for entry in removed:
            del self._sorted[self._place_of(entry)]
        for entry in added:
            insort(self._sorted, entry, key=_sort_key)

    def _place_of(self, entry: AddressEntry) -> int:
        place = bisect_left(self._sorted, _sort_key(entry), key=_sort_key)
        while self._sorted[place] is not entry:
            place += 1
        return place


def _entries_of_pod(
    inventory: Inventory, pod: Pod, alike: dict[_LabelKey, Labels]
) -> tuple[AddressEntry, ...]:
    key = (pod.namespace, pod.service_account, pod.ports, *sorted(pod.labels.items()))
    labels = alike.get(key)
    if labels is None:
        labels = alike[key] = labels_of(inventory, pod)
    return pod_entries(pod, labels)


def _sort_key(entry: AddressEntry) -> _SortKey:
    return (entry.address, entry.namespace, entry.name)
