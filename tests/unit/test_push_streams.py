"""The push streams' state, without a socket."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import parse_labels
from netpolicy.version import VERSION
from netpolicy.wire.generate import PROJECT_ROOT
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.backoff import Backoff
from nodeagent.receive.entries import Entries, StreamFault
from reconciler.push.feed import (
    PIECES_PER_MESSAGE,
    SPARE_LABEL_SETS,
    SPARE_PIECES,
    Feed,
    FeedStream,
)
from reconciler.push.observer import Hello
from reconciler.push.outbox import Offer, Outbox
from reconciler.push.sessions import Sessions


def offer(version: int) -> Offer:
    return Offer(version=version, sequence=version, digest="a" * 64)


def entry(number: int, *, app: str = "web") -> AddressEntry:
    return AddressEntry(
        address=f"fd00::{number:x}", labels=parse_labels([f"app={app}"]), name=f"pod-{number}"
    )


class Told:
    """A feed that is told of entries as a whole, and an agent at its end."""

    def __init__(self) -> None:
        self.feed = Feed()
        self._entries: frozenset[AddressEntry] = frozenset()

    def set(self, entries: Iterable[AddressEntry]) -> bool:
        """Make these the entries."""
        before, self._entries = self._entries, frozenset(entries)
        gone, come = before - self._entries, self._entries - before
        return self.feed.move(Change(gone=tuple(gone), come=tuple(come)))


def messages_of(stream: FeedStream) -> list[push_pb2.InventoryUpdate]:
    return [*map(push_pb2.InventoryUpdate.FromString, stream.messages())]


def play(stream: FeedStream, entries: Entries) -> tuple[AddressEntry, ...] | None:
    last = None
    for message in messages_of(stream):
        assert len(message.upserts) + len(message.removals) <= PIECES_PER_MESSAGE
        last = entries.take(message)
    return last


def test_a_share_of_the_streams_is_ended_and_no_other() -> None:
    hello = Hello(
        instance="i", agent_version="1", capabilities=(), sequence=0, digest="", version=0
    )
    sessions = Sessions()
    opened = [sessions.open(f"node-{number}", hello) for number in range(400)]
    sessions.close_some(0.0)
    assert not any(session.is_over for session in opened)
    sessions.close_some(0.5)
    assert 100 < sum(session.is_over for session in opened) < 300
    sessions.close_some(1.0)
    assert all(session.is_over for session in opened)


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
    told, entries = Told(), Entries()
    stream = FeedStream(told.feed)
    told.set(entry(number) for number in range(count))
    assert set(play(stream, entries) or ()) == {entry(number) for number in range(count)}
    assert play(stream, entries) is None
    wanted = [entry(number, app="db") for number in range(count // 2, count + 3)]
    assert told.set(wanted)
    assert not told.set(reversed(wanted))
    assert set(play(stream, entries) or ()) == set(wanted)


def test_a_label_set_is_sent_once() -> None:
    told = Told()
    stream = FeedStream(told.feed)
    told.set(entry(number, app=f"app-{number % 3}") for number in range(900))
    assert sum(len(message.label_sets) for message in messages_of(stream)) == 3
    told.set(entry(number, app=f"app-{number % 3}") for number in range(901))
    assert sum(len(message.label_sets) for message in messages_of(stream)) == 0


def test_streams_that_are_told_the_same_are_given_the_same_bytes() -> None:
    """One encoding for a thousand agents, whenever they came."""
    told = Told()
    told.set(entry(number) for number in range(900))
    early, later = FeedStream(told.feed), FeedStream(told.feed)
    *beginning, _ = early.messages()
    told.set(entry(number, app=f"app-{number % 2}") for number in range(901))
    news = [*early.messages()]
    assert [*map(id, later.messages())] == [*map(id, [*beginning, *news])]
    assert later.sent == early.sent == told.feed.version


def test_what_a_stream_begins_with_is_not_acted_on_before_it_has_the_news() -> None:
    told, entries = Told(), Entries()
    told.set([entry(1)])
    play(FeedStream(told.feed), Entries())
    told.set([entry(1, app="db")])
    taken = [entries.take(message) for message in messages_of(FeedStream(told.feed))]
    assert taken == [None, (entry(1, app="db"),)]


def test_a_stream_whose_feed_runs_away_while_it_begins_begins_again() -> None:
    told, entries = Told(), Entries()
    told.set([entry(1)])
    messages = FeedStream(told.feed).messages()
    assert entries.take(push_pb2.InventoryUpdate.FromString(next(messages))) is None
    for number in range(SPARE_PIECES):
        told.set([entry(number, app="db")])
    last = [entries.take(push_pb2.InventoryUpdate.FromString(one)) for one in messages][-1]
    assert last == (entry(number, app="db"),)


def test_a_stream_that_missed_versions_is_brought_up_in_one() -> None:
    told, entries = Told(), Entries()
    stream = FeedStream(told.feed)
    told.set([entry(1), entry(2)])
    play(stream, entries)
    told.set([entry(1), entry(3, app="db")])
    told.set([entry(2, app="cache")])
    told.set([entry(1), entry(2)])
    (message,) = messages_of(stream)
    assert not message.reset
    assert message.version == 4
    assert set(entries.take(message) or ()) == {entry(1), entry(2)}


def test_a_stream_too_far_behind_begins_anew() -> None:
    told, entries = Told(), Entries()
    stream = FeedStream(told.feed)
    told.set([entry(1)])
    play(stream, entries)
    assert not stream.begins
    for number in range(SPARE_PIECES // 2 + 2):
        told.set([entry(number, app="db")])
    assert stream.begins
    assert play(stream, entries) == (entry(number, app="db"),)


def test_label_sets_out_of_use_do_not_pile_up() -> None:
    told, entries = Told(), Entries()
    stream = FeedStream(told.feed)
    resets = 0
    for number in range(SPARE_LABEL_SETS + 10):
        told.set([entry(1, app=f"app-{number}")])
        for message in messages_of(stream):
            resets += message.reset
            taken = entries.take(message)
        assert taken == (entry(1, app=f"app-{number}"),)
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
