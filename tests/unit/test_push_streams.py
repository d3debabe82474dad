"""The push streams' state, without a socket."""

from __future__ import annotations

import pytest

from netpolicy.inventory import AddressEntry
from netpolicy.labels import parse_labels
from netpolicy.version import VERSION
from netpolicy.wire.generate import PROJECT_ROOT
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.backoff import Backoff
from nodeagent.receive.entries import Entries, StreamFault
from reconciler.push.feed import ENTRIES_PER_MESSAGE, SPARE_LABEL_SETS, Feed, FeedStream
from reconciler.push.outbox import Offer, Outbox


def offer(version: int) -> Offer:
    return Offer(version=version, sequence=version, digest="a" * 64)


def entry(number: int, *, app: str = "web") -> AddressEntry:
    return AddressEntry(
        address=f"fd00::{number:x}", labels=parse_labels([f"app={app}"]), name=f"pod-{number}"
    )


def play(stream: FeedStream, entries: Entries) -> tuple[AddressEntry, ...] | None:
    last = None
    for message in stream.messages():
        assert len(message.upserts) + len(message.removals) <= ENTRIES_PER_MESSAGE
        last = entries.take(message)
    return last


def test_one_announcement_at_a_time_and_only_the_latest_is_next() -> None:
    outbox = Outbox()
    outbox.offer(offer(1))
    assert outbox.take() == (1, offer(1))
    outbox.offer(offer(2))
    outbox.offer(offer(3))
    assert outbox.take() is None
    assert outbox.answer(1)
    assert outbox.take() == (2, offer(3))
    assert outbox.answer(1)
    assert outbox.take() is None
    assert not outbox.answer(9)


def test_an_announcement_is_small() -> None:
    message = push_pb2.Announcement(
        nonce=1 << 62, version=1 << 62, sequence=1 << 62, digest="a" * 64
    )
    assert message.ByteSize() < 128


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1000])
def test_a_feed_brings_every_stream_to_the_same_entries(count: int) -> None:
    feed, entries = Feed(), Entries()
    stream = FeedStream(feed)
    feed.set(entry(number) for number in range(count))
    assert set(play(stream, entries) or ()) == {entry(number) for number in range(count)}
    assert play(stream, entries) is None
    wanted = [entry(number, app="db") for number in range(count // 2, count + 3)]
    assert feed.set(wanted)
    assert not feed.set(reversed(wanted))
    assert set(play(stream, entries) or ()) == set(wanted)


def test_a_label_set_is_sent_once() -> None:
    feed = Feed()
    stream = FeedStream(feed)
    feed.set(entry(number, app=f"app-{number % 3}") for number in range(900))
    assert sum(len(message.label_sets) for message in stream.messages()) == 3
    feed.set(entry(number, app=f"app-{number % 3}") for number in range(901))
    assert sum(len(message.label_sets) for message in stream.messages()) == 0


def test_label_sets_out_of_use_do_not_pile_up() -> None:
    feed, entries = Feed(), Entries()
    stream = FeedStream(feed)
    resets = 0
    for number in range(SPARE_LABEL_SETS + 10):
        feed.set([entry(1, app=f"app-{number}")])
        for message in stream.messages():
            resets += message.reset
            assert entries.take(message) == (entry(1, app=f"app-{number}"),)
    assert resets == 2


@pytest.mark.parametrize(
    "update",
    [
        push_pb2.InventoryUpdate(version=1, complete=True),
        push_pb2.InventoryUpdate(
            version=1, reset=True, upserts=[push_pb2.InventoryEntry(label_set=4)]
        ),
    ],
)
def test_a_stream_that_breaks_its_rules_is_given_up(update: push_pb2.InventoryUpdate) -> None:
    with pytest.raises(StreamFault):
        Entries().take(update)


def test_waits_grow_to_their_bound_and_begin_anew() -> None:
    backoff = Backoff()
    waits = [backoff.fail() for _ in range(50)]
    assert all(wait <= bound for wait, bound in zip(waits, (1, 2, 4, 8, 16), strict=False))
    assert max(waits) <= 30
    backoff.succeed()
    assert backoff.fail() <= 1


def test_the_version_is_the_projects() -> None:
    assert f'version = "{VERSION}"' in (PROJECT_ROOT / "pyproject.toml").read_text()
