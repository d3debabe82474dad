"""The inventory, and the public keys of nodes, as a stream of differences.

In:   all address entries, all nodes' keys, again and again
Out:  InventoryUpdate messages for one stream: everything first, then what changed
Pure but for the counter and the tables it keeps.

Holds always:
1. A message is bounded, and a version counts only with the message marked complete.
2. A label set is sent once a stream; when most of those sent are out of use, all begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from netpolicy.encryption import NodeKey
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.wire.node_encryption import encode_node_keys
from netpolicy.wire.tidegate.v1 import push_pb2

ENTRIES_PER_MESSAGE: Final = 500
SPARE_LABEL_SETS: Final = 4096

Key = tuple[str, str, str]
NodeKeys = Mapping[str, tuple[NodeKey, ...]]
"""The keys of each node, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All entries and keys at one version; versions count from 1. `keys_pending`: which keys there are is
    not known yet, which must not look like none."""

    version: int
    entries: Mapping[Key, AddressEntry]
    node_keys: NodeKeys
    keys_pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The way from one snapshot to another."""

    upserts: tuple[AddressEntry, ...]
    removals: tuple[Key, ...]
    key_upserts: NodeKeys
    key_removals: tuple[str, ...]


@dataclass(slots=True)
class Feed:
    """The latest snapshot; remembers the last way taken, since most streams are in step."""

    latest: Snapshot | None = None
    _node_keys: NodeKeys | None = field(default=None, init=False)
    _way: tuple[int, int, Change] | None = field(default=None, init=False)

    def set(self, entries: Iterable[AddressEntry]) -> bool:
        """Make these the entries; False if they are what they were."""
        keyed = {_key(entry): entry for entry in entries}
        if self.latest is not None and keyed == self.latest.entries:
            return False
        self._advance(keyed)
        return True

    def set_node_keys(self, node_keys: NodeKeys) -> bool:
        """Make these the keys; False if they are what they were, or go out with the first entries."""
        if node_keys == self._node_keys:
            return False
        self._node_keys = dict(node_keys)
        if self.latest is None:
            return False
        self._advance(self.latest.entries)
        return True

    def _advance(self, entries: Mapping[Key, AddressEntry]) -> None:
        version = self.latest.version + 1 if self.latest else 1
        self.latest = Snapshot(
            version=version,
            entries=entries,
            node_keys=self._node_keys or {},
            keys_pending=self._node_keys is None,
        )

    def change(self, old: Snapshot, new: Snapshot) -> Change:
        """What turns one snapshot into the other."""
        if self._way is None or self._way[:2] != (old.version, new.version):
            self._way = (old.version, new.version, _difference(old, new))
        return self._way[2]


class FeedStream:
    """One stream's place in the feed, and the label sets it was sent."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._label_sets: dict[Labels, int] = {}
        self.sent: Snapshot | None = None

    def messages(self) -> Iterator[push_pb2.InventoryUpdate]:
        """The messages that bring the stream to the latest snapshot; none if it is there."""
        latest = self._feed.latest
        if latest is None or (self.sent and latest.version == self.sent.version):
            return
        if self.sent is None or self._is_bloated(latest):
            self._label_sets = {}
            change = Change(
                upserts=tuple(latest.entries.values()),
                removals=(),
                key_upserts=latest.node_keys,
                key_removals=(),
            )
            reset = True
        else:
            change, reset = self._feed.change(self.sent, latest), False
        self.sent = latest
        for message in self._encode(latest.version, change, reset=reset):
            message.keys_pending = latest.keys_pending
            yield message

    def _is_bloated(self, latest: Snapshot) -> bool:
        return len(self._label_sets) > len(latest.entries) * 2 + SPARE_LABEL_SETS

    def _encode(
        self, version: int, change: Change, *, reset: bool
    ) -> Iterator[push_pb2.InventoryUpdate]:
        removals, upserts = iter(change.removals), iter(change.upserts)
        lost, keys = iter(change.key_removals), iter(change.key_upserts.items())
        message = push_pb2.InventoryUpdate(version=version, reset=reset)
        while True:
            room = ENTRIES_PER_MESSAGE
            message.removals.extend(map(_wire_key, islice(removals, room)))
            room -= len(message.removals)
            for entry in islice(upserts, room):
                message.upserts.append(self._wire_entry(message, entry))
            room -= len(message.upserts)
            message.key_removals.extend(islice(lost, room))
            room -= len(message.key_removals)
            message.key_upserts.extend(encode_node_keys(*held) for held in islice(keys, room))
            if len(message.key_upserts) < room:
                message.complete = True
                yield message
                return
            yield message
            message = push_pb2.InventoryUpdate(version=version)

    def _wire_entry(
        self, message: push_pb2.InventoryUpdate, entry: AddressEntry
    ) -> push_pb2.InventoryEntry:
        index = self._label_sets.get(entry.labels)
        if index is None:
            index = self._label_sets[entry.labels] = len(self._label_sets)
            message.label_sets.append(_wire_labels(entry.labels))
        return push_pb2.InventoryEntry(key=_wire_key(_key(entry)), node=entry.node, label_set=index)


def _difference(old: Snapshot, new: Snapshot) -> Change:
    """What is the very same object is not gone through: keys change while entries stay, and the reverse."""
    upserts: tuple[AddressEntry, ...] = ()
    removals: tuple[Key, ...] = ()
    if old.entries is not new.entries:
        was, now = old.entries, new.entries
        upserts = tuple(entry for key, entry in now.items() if was.get(key) != entry)
        removals = tuple(key for key in was if key not in now)
    had, have = old.node_keys, new.node_keys
    return Change(
        upserts=upserts,
        removals=removals,
        key_upserts={node: keys for node, keys in have.items() if had.get(node) != keys},
        key_removals=tuple(node for node in had if node not in have),
    )


def _key(entry: AddressEntry) -> Key:
    return (entry.address, entry.namespace, entry.name)


def _wire_key(key: Key) -> push_pb2.InventoryKey:
    address, namespace, name = key
    return push_pb2.InventoryKey(address=address, namespace=namespace, name=name)


def _wire_labels(labels: Labels) -> push_pb2.LabelSet:
    return push_pb2.LabelSet(
        labels=[
            push_pb2.Label(source=label.source, key=label.key, value=label.value)
            for label in labels
        ]
    )
