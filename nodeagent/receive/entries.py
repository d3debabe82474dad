"""Put the inventory stream's messages together again.

In:   InventoryUpdate messages of one stream, in order
Out:  all address entries, and all nodes' public keys, each time a version is complete
Pure but for the table it keeps. A message that makes no sense raises StreamFault: begin anew.

Holds always:
1. What is kept is bounded, whatever is sent: entries, label sets, and the labels of all sets.
2. A version costs what changed with it, but for moved pointers.
3. No address is given the host's identity from outside: the host is always admitted, and the feed is
   not signed. Only the agent says which addresses are its host's.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from netpolicy.encryption import NodeKey
from netpolicy.inventory import AddressEntry
from netpolicy.labels import RESERVED_SOURCE, Label, Labels
from netpolicy.sorted_table import SortedTable
from netpolicy.wire.node_encryption import decode_node_keys
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.config import (
    MAX_INVENTORY_ENTRIES,
    MAX_LABEL_SETS,
    MAX_LABELS,
    MAX_NODES,
)

Key = tuple[str, str, str]
_HOST: Final = (RESERVED_SOURCE, "host")


class StreamFault(Exception):
    """The stream does not follow its own rules."""


class Entries:
    """The entries of one stream so far."""

    def __init__(self) -> None:
        self._sorted: SortedTable[Key, AddressEntry] = SortedTable()
        self._known: set[Key] = set()
        self._gone: set[Key] = set()  # of the version under way
        self._come: dict[Key, AddressEntry] = {}
        self._label_sets: list[Labels] = []
        self._label_count = 0
        self._is_begun = False
        self._node_keys: dict[str, tuple[NodeKey, ...]] = {}
        self._are_keys_pending = True

    @property
    def node_keys(self) -> tuple[NodeKey, ...] | None:
        """The keys of all nodes, each node's newest first; None while the reconciler does not know them."""
        if self._are_keys_pending:
            return None
        return tuple(key for _, keys in sorted(self._node_keys.items()) for key in keys)

    def take(self, update: push_pb2.InventoryUpdate) -> tuple[AddressEntry, ...] | None:
        """Fold one message in; all entries in order if it completes a version, else None."""
        if update.reset:
            self._forget()
        if not self._is_begun:
            raise StreamFault("the stream does not begin with everything")
        self._label_count += sum(len(labels.labels) for labels in update.label_sets)
        if self._label_count > MAX_LABELS:
            raise StreamFault("more labels than a cluster may have")
        self._label_sets += map(_labels, update.label_sets)
        self._take_entries(update)
        if len(self._known) > MAX_INVENTORY_ENTRIES or len(self._label_sets) > MAX_LABEL_SETS:
            raise StreamFault("more entries than a cluster may have")
        self._take_keys(update)
        if not update.complete:
            return None
        self._sorted.change(self._gone, self._come)
        self._gone, self._come = set(), {}
        return self._sorted.values()

    def _forget(self) -> None:
        self._sorted, self._known = SortedTable(), set()
        self._gone, self._come = set(), {}
        self._label_sets, self._label_count = [], 0
        self._node_keys, self._is_begun = {}, True

    def _take_entries(self, update: push_pb2.InventoryUpdate) -> None:
        for removed in update.removals:
            key = _key(removed)
            self._known.discard(key)
            self._come.pop(key, None)
            if key in self._sorted:
                self._gone.add(key)
        for entry in update.upserts:
            key = _key(entry.key)
            self._known.add(key)
            self._come[key] = self._entry(entry)

    def _take_keys(self, update: push_pb2.InventoryUpdate) -> None:
        self._are_keys_pending = update.keys_pending
        for node in update.key_removals:
            self._node_keys.pop(node, None)
        try:
            self._node_keys.update(map(decode_node_keys, update.key_upserts))
        except ValueError as error:
            raise StreamFault(f"a node's keys make no sense: {error}") from error
        if len(self._node_keys) > MAX_NODES:
            raise StreamFault("more nodes than a cluster may have")

    def _entry(self, entry: push_pb2.InventoryEntry) -> AddressEntry:
        if entry.label_set >= len(self._label_sets):
            raise StreamFault(f"label set {entry.label_set} was never sent")
        address, namespace, name = _key(entry.key)
        if not _is_address(address):
            raise StreamFault(f"{address[:64]!r} is no address")
        return AddressEntry(
            address=address,
            labels=self._label_sets[entry.label_set],
            namespace=namespace,
            name=name,
            node=entry.node,
        )


def _key(key: push_pb2.InventoryKey) -> Key:
    return (key.address, key.namespace, key.name)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _labels(message: push_pb2.LabelSet) -> Labels:
    labels = [Label(label.source, label.key, label.value) for label in message.labels]
    if any((label.source, label.key) == _HOST for label in labels):
        raise StreamFault("an address is said to be this node's host")
    return Labels(labels)
