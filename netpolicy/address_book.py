"""What stands behind each address, worked out anew only for what changed.

In:   one step of the inventory after another
Out:  the AddressEntry values that go and come; those that stand are those of `inventory.address_entries`
Pure; the memory only saves work: of fifty thousand pods a few change at a time.

Holds always:
1. What stands after each step is what `address_entries` says of its inventory, whatever came before.
2. A step in which only pods changed costs what these cost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netpolicy.inventory import (
    AddressEntry,
    Change,
    Inventory,
    InventoryStep,
    Pod,
    address_entries,
    labels_of,
    pod_entries,
)
from netpolicy.labels import Labels

Key = tuple[str, str]
_Entries = tuple[AddressEntry, ...]
_LabelKey = tuple[object, ...]


class AddressBook:
    """The entries of each pod, and those of all else."""

    __slots__ = ("_last", "_of_others", "_of_pods")

    def __init__(self) -> None:
        self._last = Inventory()
        self._of_pods: dict[Key, _Entries] = {}
        self._of_others: frozenset[AddressEntry] = frozenset()

    def step(self, step: InventoryStep) -> Change[AddressEntry]:
        """Go on to an inventory; what is no more, and what is new."""
        inventory = step.inventory
        others = self._others(inventory)
        gone, come = _sorted(self._of_others - others), _sorted(others - self._of_others)
        changed = {
            **_relabelled(self._last, inventory),
            **{_key(pod): pod for pod in step.pods.come},
        }
        for key in {*changed, *map(_key, step.pods.gone)}:
            gone += self._of_pods.pop(key, ())
        alike: dict[_LabelKey, Labels] = {}
        for key, pod in changed.items():
            entries = self._of_pods[key] = _entries_of(inventory, pod, alike)
            come += entries
        self._last, self._of_others = inventory, others
        return Change(gone=tuple(gone), come=tuple(come))

    def _others(self, inventory: Inventory) -> frozenset[AddressEntry]:
        """The entries of nodes, services and the API server."""
        last = self._last
        if (inventory.nodes, inventory.api_server, inventory.services) == (
            last.nodes,
            last.api_server,
            last.services,
        ):
            return self._of_others
        return frozenset(address_entries(replace(inventory, pods=())))


def _relabelled(before: Inventory, now: Inventory) -> dict[Key, Pod]:
    """The pods whose cluster or namespace is not what it was: as good as new."""
    if before.cluster != now.cluster:
        return {_key(pod): pod for pod in now.pods}
    was, names = before.namespaces, before.namespaces.keys() | now.namespaces.keys()
    changed = {name for name in names if was.get(name) != now.namespaces.get(name)}
    if not changed:
        return {}
    return {_key(pod): pod for pod in now.pods if pod.namespace in changed}


def _entries_of(inventory: Inventory, pod: Pod, alike: dict[_LabelKey, Labels]) -> _Entries:
    """The entries of a pod; pods alike share their labels."""
    key = (pod.namespace, pod.service_account, pod.ports, *sorted(pod.labels.items()))
    labels = alike.get(key)
    if labels is None:
        labels = alike[key] = labels_of(inventory, pod)
    return pod_entries(pod, labels)


def _sorted(entries: Iterable[AddressEntry]) -> list[AddressEntry]:
    return sorted(entries, key=lambda entry: (entry.address, entry.namespace, entry.name))


def _key(pod: Pod) -> Key:
    return (pod.namespace, pod.name)
