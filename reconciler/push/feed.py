"""The inventory, and the public keys of nodes, as a stream of differences.

In:   all address entries, all nodes' keys, again and again
Out:  InventoryUpdate messages for one stream: everything first, then what changed
Pure but for the counter and the tables it keeps. What streams share is encoded once.

Holds always:
1. A message is bounded, and a version counts only with the message marked complete.
2. A label set is sent once a stream; when most of those sent are out of use, all begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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


class Feed:
    """The latest snapshot; remembers the ways to it, and how a stream begins at it: a thousand streams take
    the same."""

    def __init__(self) -> None:
        self.latest: Snapshot | None = None
        self._node_keys: NodeKeys | None = None
        self._by_id: dict[int, AddressEntry] = {}
        self._ways: dict[int, Change] = {}
        self._beginning: Beginning | None = None

    def set(self, entries: Iterable[AddressEntry]) -> bool:
        """Make these the entries; False if they are what they were. The same objects are not gone through."""
        given = tuple(entries)
        before, now = self._by_id, dict(zip(map(id, given), given, strict=True))
        was = self.latest.entries if self.latest is not None else {}
        keyed = dict(was)
        for number in before.keys() - now.keys():
            keyed.pop(_key(before[number]), None)
        new = {_key(now[number]): now[number] for number in now.keys() - before.keys()}
        keyed.update(new)
        if len(keyed) != len(now):  # two of one key: the last one counts
            keyed = new = {_key(entry): entry for entry in given}
        self._by_id = now
        upserts = tuple(entry for key, entry in new.items() if was.get(key) != entry)
        if self.latest is not None and not upserts and len(keyed) == len(was):
            return False
        removals = tuple(was.keys() - keyed.keys())
        self._advance(
            keyed, Change(upserts=upserts, removals=removals, key_upserts={}, key_removals=())
        )
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

    def change(self, old: Snapshot, new: Snapshot) -> Change:
        """What turns a snapshot into the latest one."""
        way = self._ways.get(old.version)
        if way is None:
            way = self._ways[old.version] = _difference(old, new)
        return way

    def beginning(self) -> Beginning | None:
        """How a stream begins that was sent nothing; None before there is anything."""
        if self._beginning is None and self.latest is not None:
            self._beginning = Beginning(self.latest)
        return self._beginning

    def _advance(self, entries: Mapping[Key, AddressEntry], step: Change | None = None) -> None:
        """Go on to another version; `step` is the way from the one before, where it is known."""
        before = self.latest.version if self.latest else 0
        self.latest = Snapshot(
            version=before + 1,
            entries=entries,
            node_keys=self._node_keys or {},
            keys_pending=self._node_keys is None,
        )
        self._ways = {before: step} if step is not None else {}
        self._beginning = None


class Beginning:
    """All of one snapshot, encoded piece by piece as the first stream asks, and kept for the others."""

    def __init__(self, snapshot: Snapshot) -> None:
        everything = Change(
            upserts=tuple(snapshot.entries.values()),
            removals=(),
            key_upserts=snapshot.node_keys,
            key_removals=(),
        )
        self.label_sets: dict[Labels, int] = {}
        """Complete after the last message."""
        self._encoded: list[push_pb2.InventoryUpdate] = []
        self._rest = _encode(snapshot, everything, self.label_sets, reset=True)

    def messages(self) -> Iterator[push_pb2.InventoryUpdate]:
        """From the first to the last; any number of streams may be on their way at once."""
        place = 0
        while True:
            if place == len(self._encoded):
                following = next(self._rest, None)
                if following is None:
                    return
                self._encoded.append(following)
            yield self._encoded[place]
            place += 1


class FeedStream:
    """One stream's place in the feed, and the label sets it was sent."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._label_sets: dict[Labels, int] = {}
        self.sent: Snapshot | None = None

    def messages(self) -> Iterator[push_pb2.InventoryUpdate]:
        """The messages that bring the stream to the latest snapshot; none if it is there."""
        latest, beginning = self._feed.latest, self._feed.beginning
        if latest is None or (self.sent and latest.version == self.sent.version):
            return
        before, self.sent = self.sent, latest
        if before is not None and not self._is_bloated(latest):
            yield from _encode(
                latest, self._feed.change(before, latest), self._label_sets, reset=False
            )
        elif (everything := beginning()) is not None:
            yield from everything.messages()
            self._label_sets = dict(everything.label_sets)

    def _is_bloated(self, latest: Snapshot) -> bool:
        return len(self._label_sets) > len(latest.entries) * 2 + SPARE_LABEL_SETS


def _encode(
    snapshot: Snapshot, change: Change, label_sets: dict[Labels, int], *, reset: bool
) -> Iterator[push_pb2.InventoryUpdate]:
    """The messages of a change; adds to the label sets that the stream was sent."""
    removals, upserts = iter(change.removals), iter(change.upserts)
    lost, keys = iter(change.key_removals), iter(change.key_upserts.items())
    message = _empty(snapshot, reset=reset)
    while True:
        room = ENTRIES_PER_MESSAGE
        message.removals.extend(map(_wire_key, islice(removals, room)))
        room -= len(message.removals)
        for entry in islice(upserts, room):
            message.upserts.append(_wire_entry(message, entry, label_sets))
        room -= len(message.upserts)
        message.key_removals.extend(islice(lost, room))
        room -= len(message.key_removals)
        message.key_upserts.extend(encode_node_keys(*held) for held in islice(keys, room))
        if len(message.key_upserts) < room:
            message.complete = True
            yield message
            return
        yield message
        message = _empty(snapshot, reset=False)


def _empty(snapshot: Snapshot, *, reset: bool) -> push_pb2.InventoryUpdate:
    return push_pb2.InventoryUpdate(
        version=snapshot.version, reset=reset, keys_pending=snapshot.keys_pending
    )


def _wire_entry(
    message: push_pb2.InventoryUpdate, entry: AddressEntry, label_sets: dict[Labels, int]
) -> push_pb2.InventoryEntry:
    index = label_sets.get(entry.labels)
    if index is None:
        index = label_sets[entry.labels] = len(label_sets)
        message.label_sets.append(_wire_labels(entry.labels))
    return push_pb2.InventoryEntry(key=_wire_key(_key(entry)), node=entry.node, label_set=index)


def _difference(old: Snapshot, new: Snapshot) -> Change:
    """The way between any two snapshots. What is the very same object is not gone through: keys change while
    entries stay, and the reverse."""
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
