"""Public keys on the wire and on disk: what comes back, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import parse_labels
from netpolicy.node_encryption import EncryptionMode, Implementation, NodeEncryption
from netpolicy.wire.node_encryption import (
    decode_node_encryption,
    decode_node_keys,
    encode_node_encryption,
    encode_node_keys,
)
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.entries import Entries, StreamFault
from nodeagent.saved_keys import load_node_keys, save_node_keys
from reconciler.push.feed import PIECES_PER_MESSAGE, Feed, FeedStream
from tests.support.node_keys import key_of

REPORT = NodeEncryption(
    node="a",
    mode=EncryptionMode.STRICT,
    implementation=Implementation.USERSPACE,
    keys=(key_of("a", 2, "192.0.2.1", made_at=9.5), key_of("a", 1, "192.0.2.1", "2001:db8::1")),
    peers=3,
    silent_peers=("b",),
    unmet_peers=("b", "c"),
    error="port 51871 is taken",
)


def test_a_report_comes_back_as_it_was_sent() -> None:
    assert decode_node_encryption("a", encode_node_encryption(REPORT)) == REPORT


def test_the_name_is_the_certificates_whatever_the_agent_believes() -> None:
    found = decode_node_encryption("other", encode_node_encryption(REPORT))
    assert {found.node, *(key.node for key in found.keys)} == {"other"}


Spoil = Callable[[push_pb2.NodeEncryption], object]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: setattr(m, "mode", "maybe"),
        lambda m: setattr(m, "mode", ""),
        lambda m: setattr(m, "implementation", "ipsec"),
        lambda m: setattr(m, "peers", 1 << 31),
        lambda m: m.silent_peers.extend(["x"] * 200),
        lambda m: m.unmet_peers.extend(["x"] * 200),
        lambda m: m.unmet_peers.append(""),
        lambda m: m.silent_peers.append("\x1b[2J"),
        lambda m: m.silent_peers.append(""),
        lambda m: m.silent_peers.append("x" * 300),
        lambda m: m.keys.append(m.keys[0]),
        lambda m: m.keys[1].CopyFrom(m.keys[0]),
        lambda m: setattr(m.keys[0], "key", bytes(32)),
        lambda m: setattr(m.keys[0], "key", b"short"),
        lambda m: setattr(m.keys[0], "key", b"l" * 33),
        lambda m: setattr(m.keys[0], "port", 0),
        lambda m: setattr(m.keys[0], "port", 65533),
        lambda m: setattr(m.keys[0], "slot", 2),
        lambda m: setattr(m.keys[0], "made_at_us", -1),
        lambda m: setattr(m.keys[0], "made_at_us", 1 << 62),
        lambda m: m.keys[0].addresses.append("no address"),
        lambda m: m.keys[0].addresses.append("127.0.0.1"),
        lambda m: m.keys[0].addresses.append("224.0.0.1"),
        lambda m: m.keys[0].addresses.append("0.0.0.0"),
        lambda m: m.keys[0].addresses.append("2001:DB8::1"),
        lambda m: m.keys[0].addresses.append("192.0.2.1/24"),
        lambda m: m.keys[0].addresses.extend(["192.0.2.1"] * 20),
    ],
)
def test_what_no_agent_writes_is_refused(spoil: Spoil) -> None:
    message = encode_node_encryption(REPORT)
    spoil(message)
    with pytest.raises(ValueError):  # noqa: PT011  the words are for the log
        decode_node_encryption("a", message)


def test_an_agents_words_cannot_steer_a_terminal() -> None:
    message = encode_node_encryption(REPORT)
    message.error = "\x1b[2Jall is well\n"
    assert decode_node_encryption("a", message).error == " [2Jall is well "


def test_keys_of_a_node_that_only_can_encrypt_say_so() -> None:
    keys = (key_of("b", 3, "192.0.2.2", in_force=False),)
    assert decode_node_keys(encode_node_keys("b", keys)) == ("b", keys)


def test_saved_keys_come_back_and_a_damaged_file_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "state" / "node-keys"
    assert load_node_keys(path) == ()
    keys = (*REPORT.keys, key_of("b", 3, "192.0.2.2", in_force=False))
    save_node_keys(path, keys[:1])
    save_node_keys(path, keys)
    assert load_node_keys(path) == keys
    assert path.stat().st_mode & 0o777 == 0o600
    data = path.read_bytes()
    for damaged in (data[:-3], b"\xff" * 40, data.replace(b"192.0.2.2", b"127.0.0.1")):
        path.write_bytes(damaged)
        assert load_node_keys(path) == ()


ENTRY = AddressEntry(address="10.0.0.1", labels=parse_labels(["a=b"]))


def play(stream: FeedStream, entries: Entries) -> list[push_pb2.InventoryUpdate]:
    messages = [*map(push_pb2.InventoryUpdate.FromString, stream.messages())]
    for message in messages:
        assert (entries.take(message) is not None) is message.complete
    return messages


def test_the_feed_brings_keys_and_only_those_that_changed() -> None:
    feed, entries = Feed(), Entries()
    stream = FeedStream(feed)
    many = {f"n{n:04}": (key_of(f"n{n:04}", n + 1, "192.0.2.1"),) for n in range(1200)}
    assert feed.set_node_keys(many) is False  # there are no entries to go with
    assert feed.move(Change(come=(ENTRY,)))
    messages = play(stream, entries)
    assert len(messages) == 1200 // PIECES_PER_MESSAGE + 2, "and one that completes them"
    assert entries.node_keys == tuple(key for keys in many.values() for key in keys)

    assert feed.set_node_keys(many) is False
    rotated = {**many, "n0007": (key_of("n0007", 5000, "192.0.2.1"), *many["n0007"])}
    del rotated["n0009"]
    assert feed.set_node_keys(rotated)
    (message,) = play(stream, entries)
    assert [keys.node for keys in message.key_upserts] == ["n0007"]
    assert list(message.key_removals) == ["n0009"]
    assert not message.upserts
    assert entries.node_keys == tuple(key for keys in rotated.values() for key in keys)

    feed.move(Change(gone=(ENTRY,)))
    (message,) = play(stream, entries)
    assert not message.key_upserts
    assert len(entries.node_keys) == 1200


def test_a_reset_forgets_the_keys_of_the_stream_before() -> None:
    feed, entries = Feed(), Entries()
    feed.move(Change(come=(ENTRY,)))
    feed.set_node_keys({"a": REPORT.keys})
    play(FeedStream(feed), entries)
    feed.set_node_keys({})
    play(FeedStream(feed), entries)
    assert entries.node_keys == ()


def test_a_feed_with_a_key_that_is_none_is_left() -> None:
    keys = encode_node_keys("a", REPORT.keys)
    keys.keys[0].key = b"x"
    with pytest.raises(StreamFault, match="keys make no sense"):
        Entries().take(push_pb2.InventoryUpdate(reset=True, key_upserts=[keys], complete=True))
