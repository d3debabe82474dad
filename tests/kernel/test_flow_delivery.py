"""From the kernel to a subscriber: every flow arrives, or is counted where it was lost.

from_pod ──▶ event ring ──▶ pump ──▶ socket ──▶ reader        all real, in one process
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Occasion
from nodeagent.enforcer import Enforcer
from nodeagent.flow_pump import FlowPump
from nodeagent.flows.columns import FlowColumns
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.ring import FOLLOWER_BACKLOG, FlowRing, Lost, LostAt
from nodeagent.local_api import serve
from nodeagent.local_api_client import AgentClient, AgentUnreachable, open_agent
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import TEST_INTERFACE, KernelEngine, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation

pytestmark = pytest.mark.kernel

WEB, WORLD = "10.0.0.1", "192.0.2.1"
WAIT_SECONDS = 30
FLOOD = 300_000


@pytest.fixture
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as made:
        made.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
        made.datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
        made.forget_events()
        yield made


@contextmanager
def agent_of(engine: KernelEngine, socket: Path) -> Iterator[AgentClient]:
    """The agent's way of a flow, in a thread; a client of it."""
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        ring = FlowRing()
        pump = FlowPump(engine.datapath, Enforcer(engine.datapath), ring, "here")
        pump.start()
        server = await serve(SimpleNamespace(ring=ring), socket)  # flows need no other part
        loops.append(asyncio.get_running_loop())
        started.set()
        await stop.wait()
        await server.stop(0)
        pump.stop()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS)
        with open_agent(socket) as client:
            yield client
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(WAIT_SECONDS)


class Reader:
    """Follows every flow in a thread, and counts. Until `may_read` is set it takes none."""

    def __init__(self, client: AgentClient, wanted: FlowFilter, may_read: threading.Event) -> None:
        self.delivered = 0
        self.lost: Counter[LostAt] = Counter()
        self.batches: list[FlowColumns] = []
        self._changed = threading.Condition()
        self._stream = client.flow_batches(wanted, last=0, follow=True)
        self._may_read = may_read
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, met: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(met, WAIT_SECONDS), (self.delivered, self.lost)

    def _read(self) -> None:
        with suppress(AgentUnreachable):  # the end of the test
            for item in self._stream:
                self._count(item)
                self._may_read.wait()

    def _count(self, item: FlowColumns | Lost) -> None:
        with self._changed:
            if isinstance(item, Lost):
                self.lost[item.at] += item.count
            else:
                self.delivered += len(item)
                self.batches.append(item)
            self._changed.notify_all()


def open_flows(engine: KernelEngine, count: int, source_port: int = 4000) -> None:
    packet = packets.opening(WEB, WORLD, Protocol.TCP, 80, source_port=source_port)
    engine.datapath.run_program(Direction.EGRESS, packet, repeat=count)


@pytest.fixture
def client(engine: KernelEngine, tmp_path: Path) -> Iterator[AgentClient]:
    with agent_of(engine, tmp_path / "agent.sock") as found:
        yield found


def reader_of(
    engine: KernelEngine,
    client: AgentClient,
    *,
    wanted: FlowFilter | None = None,
    slow: bool = False,
) -> tuple[Reader, threading.Event]:
    """A reader that has seen its first flow."""
    may_read = threading.Event()
    if not slow:
        may_read.set()
    open_flows(engine, 1)
    reader = Reader(client, wanted or FlowFilter(), may_read)
    reader.wait_for(lambda: reader.delivered == 1)
    return reader, may_read


@pytest.mark.parametrize("slow", [False, True])
def test_what_is_sent_is_delivered_or_counted_where_it_was_lost(
    engine: KernelEngine, client: AgentClient, slow: bool
) -> None:
    reader, may_read = reader_of(engine, client, slow=slow)
    before = engine.datapath.lost_events()
    for _ in range(FLOOD // 10_000):
        open_flows(engine, 10_000)
    may_read.set()
    reader.wait_for(lambda: reader.delivered + reader.lost.total() == 1 + FLOOD)
    assert reader.lost[LostAt.KERNEL] == engine.datapath.lost_events() - before
    if slow:
        assert reader.lost[LostAt.READER] > 0
    assert reader.delivered > FOLLOWER_BACKLOG // 2
    ends = {end.address for batch in reader.batches for end in batch.ends}
    assert ends == {WEB, WORLD}


def test_single_flows_of_a_quiet_node_arrive_without_waiting_for_more(
    engine: KernelEngine, client: AgentClient
) -> None:
    reader, _ = reader_of(engine, client)
    for count in range(2, 30):
        open_flows(engine, 1, source_port=4000 + count)
        reader.wait_for(lambda count=count: reader.delivered == count)  # type: ignore[misc]


def test_a_filter_lets_only_what_it_asks_for_through(
    engine: KernelEngine, client: AgentClient
) -> None:
    reader, _ = reader_of(engine, client, wanted=FlowFilter(verdicts=frozenset({"FORWARDED"})))
    refusal = packets.opening(WEB, WORLD, Protocol.TCP, 81, source_port=9)
    engine.datapath.run_program(Direction.EGRESS, refusal)
    open_flows(engine, 1, source_port=4001)
    reader.wait_for(lambda: reader.delivered == 2)
    assert [batch.rows.source_port[0] for batch in reader.batches] == [4000, 4001]


def test_refused_packets_that_stop_are_summed_up_without_another(
    engine: KernelEngine, client: AgentClient
) -> None:
    reader, _ = reader_of(engine, client)
    refusal = packets.opening(WEB, WORLD, Protocol.TCP, 81, source_port=9)
    engine.datapath.run_program(Direction.EGRESS, refusal, repeat=1000)
    reader.wait_for(lambda: reader.delivered == 3)
    flows = [flow for batch in reader.batches for flow in batch.records()]
    assert [(flow.occasion, flow.packets) for flow in flows[1:]] == [
        (Occasion.NEW, 1), (Occasion.PACKET, 999),
    ]  # fmt: skip
