"""What stands behind each address, worked out anew only for what changed.

In:   one inventory after another
Out:  AddressEntry values, as `inventory.address_entries` gives them
Pure; the memory only saves work: of fifty thousand pods a few change at a time.

Holds always:
1. The answer is that of `address_entries`, whatever came before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from netpolicy.inventory import AddressEntry, Inventory, Pod, address_entries, service_entries
from netpolicy.services import ClusterService

_Key = tuple[str, str]
_Known = tuple[Pod, tuple[AddressEntry, ...]]
_KnownService = tuple[ClusterService, tuple[AddressEntry, ...]]


class AddressBook:
    """The entries of the last inventory."""

    __slots__ = ("_cluster", "_known", "_namespaces", "_services")

    def __init__(self) -> None:
        self._cluster = ""
        self._namespaces: Mapping[str, Mapping[str, str]] = {}
        self._known: dict[_Key, _Known] = {}
        self._services: dict[_Key, _KnownService] = {}

    def entries(self, inventory: Inventory) -> tuple[AddressEntry, ...]:
        """Every address of the cluster, sorted."""
        known = self._still_true(inventory)
        self._known = {}
        found = list(
            address_entries(
                replace(inventory, pods=(), services=()),
            )
        )
        found += self._of_services(inventory.services)
        for pod in inventory.pods:
            key = (pod.namespace, pod.name)
            before = known.get(key)
            # The same object, not an equal one: comparing would cost what is to be saved.
            is_known = before is not None and before[0] is pod
            entries = before[1] if before and is_known else _entries_of(inventory, pod)
            self._known[key] = (pod, entries)
            found += entries
        self._cluster, self._namespaces = inventory.cluster, inventory.namespaces
        return tuple(sorted(found, key=lambda entry: (entry.address, entry.namespace, entry.name)))

    def _of_services(self, services: tuple[ClusterService, ...]) -> Iterator[AddressEntry]:
        known, self._services = self._services, {}
        for service in services:
            key = (service.namespace, service.name)
            before = known.get(key)
            is_known = before is not None and before[0] is service
            entries = before[1] if before and is_known else service_entries(service)
            self._services[key] = (service, entries)
            yield from entries

    def _still_true(self, inventory: Inventory) -> dict[_Key, _Known]:
        """What is known of pods whose cluster and namespace are what they were."""
        if inventory.cluster != self._cluster:
            return {}
        before, now = self._namespaces, inventory.namespaces
        changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        if not changed:
            return self._known
        return {key: known for key, known in self._known.items() if key[0] not in changed}


def _entries_of(inventory: Inventory, pod: Pod) -> tuple[AddressEntry, ...]:
    alone = Inventory(cluster=inventory.cluster, namespaces=inventory.namespaces, pods=(pod,))
    return address_entries(alone)
