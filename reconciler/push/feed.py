"""The inventory, and the public keys of nodes, as a stream of differences.

In:   address entries that go and come, and all nodes' keys, again and again
Out:  encoded InventoryUpdate messages for each stream: everything first, then what changed
Pure but for the counter and the tables it keeps. A thousand streams that go the same way are given the
same bytes.

Holds always:
1. A message is bounded, and a version counts only with the message marked complete.
2. A label set is sent once a stream; when most of those sent are out of use, all streams begin anew.
3. What is kept of former versions is bounded: a stream further behind begins anew.
4. A step costs what changed, whatever stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, TypeAlias

from google.protobuf.message import Message

from netpolicy.encryption import NodeKey
from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import Labels
from netpolicy.wire.node_encryption import encode_node_keys
from netpolicy.wire.tidegate.v1 import push_pb2

PIECES_PER_MESSAGE: Final = 500
SPARE_LABEL_SETS: Final = 4096
SPARE_PIECES: Final = 1024
"""So many changed entries are remembered besides half as many as there are entries."""

Key = tuple[str, str, str]
NodeKeys = Mapping[str, tuple[NodeKey, ...]]
"""The keys of each node, the newest first."""

_Piece: TypeAlias = tuple[str, Message | str]
"""A field of InventoryUpdate, and one of its items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The way to one version from the one before, or from an earlier one. `label_sets`: how many had been
    sent before it."""

    version: int
    label_sets: int
    upserts: Mapping[Key, AddressEntry] = field(default_factory=dict)
    removals: frozenset[Key] = frozenset()
    key_upserts: NodeKeys = field(default_factory=dict)
    key_removals: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """In pieces of messages."""
        lost = len(self.removals) + len(self.key_removals)
        return len(self.upserts) + len(self.key_upserts) + lost


class Feed:
    """What stands, and the last steps to it. Versions count from 1; 0: there is nothing yet."""

    def __init__(self) -> None:
        self.version = 0
        self._entries: dict[Key, AddressEntry] = {}
        self._node_keys: NodeKeys | None = None  # not known yet, which must not look like none
        self._table: list[Labels] = []  # of label sets, as every stream has it or a part of it
        self._places: dict[Labels, int] = {}
        self._steps: deque[Step] = deque()
        self._kept_pieces = 0
        self._ways: dict[int, tuple[bytes, ...]] = {}
        self._beginning: Beginning | None = None

    def move(self, change: Change[AddressEntry]) -> bool:
        """Go on to other entries; False if they are what they were. What came counts over what went."""
        come = {_key(entry): entry for entry in change.come}
        upserts = {key: one for key, one in come.items() if self._entries.get(key) != one}
        went = frozenset(_key(entry) for entry in change.gone)
        removals = frozenset(key for key in went if key in self._entries and key not in come)
        if self.version and not upserts and not removals:
            return False
        for key in removals:
            del self._entries[key]
        self._entries |= upserts
        label_sets = len(self._table)
        self._number(upserts.values())
        self._advance(
            Step(
                version=self.version + 1, label_sets=label_sets, upserts=upserts, removals=removals
            )
        )
        if len(self._table) > 2 * len(self._entries) + SPARE_LABEL_SETS:
            self._begin_anew()
        return True

    def set_node_keys(self, node_keys: NodeKeys) -> bool:
        """Make these the keys; False if they are what they were, or go out with the first entries."""
        if node_keys == self._node_keys:
            return False
        before, self._node_keys = self._node_keys or {}, dict(node_keys)
        if not self.version:
            return False
        self._advance(
            Step(
                version=self.version + 1,
                label_sets=len(self._table),
                key_upserts={node: k for node, k in node_keys.items() if before.get(node) != k},
                key_removals=frozenset(before.keys() - node_keys.keys()),
            )
        )
        return True

    def reaches(self, version: int) -> bool:
        """True if there is a way from this version to the latest."""
        first = self._steps[0].version if self._steps else self.version + 1
        return first - 1 <= version <= self.version

    def way(self, version: int) -> tuple[bytes, ...]:
        """The messages from a version that the feed reaches from to the latest, which they complete."""
        if version not in self._ways:
            since = [step for step in self._steps if step.version > version]
            whole = _joined(since) if since else Step(version=version, label_sets=len(self._table))
            label_sets = self._table[whole.label_sets :]
            self._ways[version] = tuple(self._encode(whole, label_sets))
        return self._ways[version]

    def beginning(self) -> Beginning:
        """Everything at a version from which the feed reaches the latest."""
        if self._beginning is None or not self.reaches(self._beginning.version):
            whole = Step(
                version=self.version,
                label_sets=0,
                upserts=dict(self._entries),
                key_upserts=dict(self._node_keys or {}),
            )
            messages = self._encode(whole, tuple(self._table), is_beginning=True)
            self._beginning = Beginning(self.version, messages)
        return self._beginning

    def _advance(self, step: Step) -> None:
        self.version = step.version
        self._ways.clear()
        self._steps.append(step)
        self._kept_pieces += step.size
        while self._kept_pieces > SPARE_PIECES + len(self._entries) // 2:
            self._kept_pieces -= self._steps.popleft().size

    def _begin_anew(self) -> None:
        """Number the label sets in use alone; what any stream has of the table before is of no use."""
        self._table, self._places, self._beginning = [], {}, None
        self._steps.clear()
        self._kept_pieces = 0
        self._number(self._entries.values())

    def _number(self, entries: Iterable[AddressEntry]) -> None:
        """Give label sets that are new a place in the table."""
        for entry in entries:
            if entry.labels not in self._places:
                self._places[entry.labels] = len(self._table)
                self._table.append(entry.labels)

    def _encode(
        self, step: Step, label_sets: Iterable[Labels], *, is_beginning: bool = False
    ) -> Iterator[bytes]:
        """The messages of a step, encoded as they are asked for; what they say is of this moment."""
        return _messages(
            _pieces(step, label_sets, self._places),
            step.version,
            is_beginning=is_beginning,
            keys_pending=self._node_keys is None,
        )


class Beginning:
    """All of one version, encoded message by message as the first stream asks, and kept for the others.

    It completes nothing: what came since goes out in the same breath, or an agent would act on the past.
    """

    def __init__(self, version: int, messages: Iterator[bytes]) -> None:
        self.version = version
        self._encoded: list[bytes] = []
        self._rest = messages

    def messages(self) -> Iterator[bytes]:
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
    """One stream's place in the feed. `sent`: the version it was brought to; 0: it was sent nothing."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.sent = 0

    @property
    def begins(self) -> bool:
        """True if everything is sent next."""
        return not self.sent or not self._feed.reaches(self.sent)

    def messages(self) -> Iterator[bytes]:
        """The messages that bring the stream to the latest version; none if it is there."""
        if self.sent == self._feed.version:
            return
        while self.begins:
            beginning = self._feed.beginning()
            yield from beginning.messages()
            self.sent = beginning.version  # by now the feed may have gone on, too far even
        way, self.sent = self._feed.way(self.sent), self._feed.version
        yield from way


def _joined(steps: Iterable[Step]) -> Step:
    """One step in place of several."""
    first, *others = steps
    if not others:
        return first
    upserts, removals = dict(first.upserts), set(first.removals)
    key_upserts, key_removals = dict(first.key_upserts), set(first.key_removals)
    for step in others:
        for key in step.removals:
            upserts.pop(key, None)
        for node in step.key_removals:
            key_upserts.pop(node, None)
        removals, key_removals = removals | step.removals, key_removals | step.key_removals
        upserts |= step.upserts
        key_upserts |= step.key_upserts
    return Step(
        version=others[-1].version,
        label_sets=first.label_sets,
        upserts=upserts,
        removals=frozenset(removals - upserts.keys()),
        key_upserts=key_upserts,
        key_removals=frozenset(key_removals - key_upserts.keys()),
    )


def _messages(
    pieces: Iterator[_Piece], version: int, *, is_beginning: bool, keys_pending: bool
) -> Iterator[bytes]:
    is_first, is_last = True, False
    while not is_last:
        some = list(islice(pieces, PIECES_PER_MESSAGE))
        is_last = len(some) < PIECES_PER_MESSAGE
        message = push_pb2.InventoryUpdate(
            version=version,
            reset=is_beginning and is_first,
            keys_pending=keys_pending,
            complete=is_last and not is_beginning,
        )
        for name, piece in some:
            getattr(message, name).append(piece)
        yield message.SerializeToString()
        is_first = False


def _pieces(
    step: Step, label_sets: Iterable[Labels], numbers: Mapping[Labels, int]
) -> Iterator[_Piece]:
    """Label sets before the entries that name them by their places."""
    return chain(
        (("label_sets", _wire_labels(labels)) for labels in label_sets),
        (("removals", _wire_key(key)) for key in sorted(step.removals)),
        (
            ("upserts", _wire_entry(key, entry, numbers[entry.labels]))
            for key, entry in step.upserts.items()
        ),
        (("key_removals", node) for node in sorted(step.key_removals)),
        (("key_upserts", encode_node_keys(*held)) for held in step.key_upserts.items()),
    )


def _wire_entry(key: Key, entry: AddressEntry, label_set: int) -> push_pb2.InventoryEntry:
    return push_pb2.InventoryEntry(key=_wire_key(key), node=entry.node, label_set=label_set)


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
