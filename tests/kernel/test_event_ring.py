"""The mapped event ring against the real kernel: order, wrapping, and exact counts of what is lost.

from_pod ──▶ events ──▶ EventReader          each bare SYN is a new flow, and so an event
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from threading import Thread

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath.event_ring import RECORD_BYTES
from nodeagent.datapath.events import READ_LIMIT, EventReader
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation

pytestmark = pytest.mark.kernel

WEB, WORLD = "10.0.0.1", "192.0.2.1"
LOOPBACK = 1


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as made:
        made.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
        made.datapath.set_endpoint(WEB_ENDPOINT, LOOPBACK)
        yield made


@pytest.fixture
def reader(engine: KernelEngine) -> Iterator[EventReader]:
    engine.forget_events()
    opened = engine.datapath.events()
    yield opened
    opened.close()


def open_flow(engine: KernelEngine, source_port: int, repeat: int = 1) -> None:
    packet = packets.opening(WEB, WORLD, Protocol.TCP, 80, source_port=source_port)
    engine.datapath.run_program(Direction.EGRESS, packet, repeat=repeat)


def is_readable(reader: EventReader) -> bool:
    poll = select.epoll()
    try:
        poll.register(reader.fileno(), select.EPOLLIN)
        return bool(poll.poll(0))
    finally:
        poll.close()


def test_events_come_in_order_across_the_end_of_the_ring(
    engine: KernelEngine, reader: EventReader
) -> None:
    """Runs of an odd length, so that reads begin and end everywhere."""
    sent: list[tuple[int, int]] = []
    got: list[int] = []
    while sum(count for _, count in sent) < reader.room + 1000:
        port = 1024 + len(sent)
        open_flow(engine, port, repeat=997)
        sent.append((port, 997))
        while records := reader.read_records():
            got += reader.columns(records).source_port
    assert got == [port for port, count in sent for _ in range(count)]


def test_a_full_ring_keeps_the_oldest_and_counts_the_rest_exactly(
    engine: KernelEngine, reader: EventReader
) -> None:
    before = engine.datapath.lost_events()
    for port in range(2000, 2010):
        open_flow(engine, port, repeat=reader.room // 8)
    sent = 10 * (reader.room // 8)
    sizes, ports = [], []
    while records := reader.read_records():
        sizes.append(len(records) // RECORD_BYTES)
        ports += reader.columns(records).source_port
    lost = engine.datapath.lost_events() - before
    assert sum(sizes) + lost == sent
    assert max(sizes) <= READ_LIMIT
    assert lost > 0
    assert ports == sorted(ports)
    assert ports[0] == 2000


def test_who_took_nothing_is_woken_by_the_next_event(
    engine: KernelEngine, reader: EventReader
) -> None:
    assert reader.read() == []
    assert not is_readable(reader)
    open_flow(engine, 3000, repeat=READ_LIMIT + 1)
    assert is_readable(reader)
    assert len(reader.read()) == READ_LIMIT
    assert is_readable(reader)
    assert len(reader.read()) == 1
    assert reader.read() == []
    assert not is_readable(reader)
    open_flow(engine, 3001)
    assert is_readable(reader)


def test_a_new_reader_is_woken_though_the_one_before_it_was_killed(
    engine: KernelEngine, reader: EventReader
) -> None:
    """The killed one had just been woken: the bell was rung, and nobody is awaited."""
    assert reader.read() == []
    open_flow(engine, 3002)
    following = engine.datapath.events()
    try:
        assert [event.source_port for event in following.read()] == [3002]
        assert following.read() == []
        assert not is_readable(following)
        open_flow(engine, 3003)
        assert is_readable(following)
    finally:
        following.close()


def test_events_of_two_processors_are_each_told_once_and_in_order(
    engine: KernelEngine, reader: EventReader
) -> None:
    """Each thread opens flows by its own ports, in rising order, while the reader reads."""
    lost = engine.datapath.lost_events()
    runs, each = 40, 200
    threads = [
        Thread(target=lambda first=first: [open_flow(engine, first + i, each) for i in range(runs)])
        for first in (4000, 5000)
    ]
    ports: list[int] = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ports += reader.columns(reader.read_records()).source_port
    while records := reader.read_records():
        ports += reader.columns(records).source_port
    assert len(ports) == 2 * runs * each - (engine.datapath.lost_events() - lost)
    for first in (4000, 5000):
        own = [port for port in ports if first <= port < first + 1000]
        assert own == sorted(own)
