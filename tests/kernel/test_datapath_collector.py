"""The conntrack maps are swept: what is over goes, what the programs would still find stays.

age a flow by a while ──▶ sweep ──▶ is it gone?   ⟺   do the programs still know it?
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import FlowEvent, Occasion, libbpf
from nodeagent.datapath.events import EventDecoder, flow_events
from nodeagent.datapath_options import FlowLifetimes
from nodeagent.flow_collection import FlowCollection
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import TEST_INTERFACE, KernelEngine
from tests.support.kernel_fixtures import PEER, WEB, WEB_ENDPOINT, WORLD
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip

pytestmark = pytest.mark.kernel

WEB4, PEER4, FAR4 = "10.0.0.1", "10.0.0.2", "192.0.2.1"
TCP, UDP = Protocol.TCP, Protocol.UDP
LIFETIMES = FlowLifetimes()
IN, OUT = Direction.INGRESS, Direction.EGRESS
OPENED = ((IN, SYN),)
SHAKEN = (*OPENED, (OUT, SYN | ACK))
ESTABLISHED = (*SHAKEN, (IN, ACK))
STATES = {
    "an opening": (OPENED, LIFETIMES.tcp_opening),
    "a handshake that is not complete": (SHAKEN, LIFETIMES.tcp_opening),
    "an established connection": (ESTABLISHED, LIFETIMES.tcp),
    "one that a side finished": ((*ESTABLISHED, (IN, FIN | ACK)), LIFETIMES.tcp),
    "one that both sides finished": (
        (*ESTABLISHED, (IN, FIN | ACK), (OUT, FIN | ACK)), LIFETIMES.tcp_closed),
    "one that was reset": ((*ESTABLISHED, (OUT, RST)), LIFETIMES.tcp_closed),
    "one found mid-stream": (((IN, ACK),), LIFETIMES.tcp),
}  # fmt: skip


def exchange(engine: KernelEngine, direction: Direction, flags: int) -> bool:
    """A segment between the peer and web's port 8080; web refuses egress that is no answer."""
    if direction is IN:
        packet = ip(PEER4, WEB4, TCP, packets.tcp(5000, 8080, flags))
    else:
        packet = ip(WEB4, PEER4, TCP, packets.tcp(8080, 5000, flags))
    return engine.run(WEB_ENDPOINT, direction, packet).allowed


def sweep(engine: KernelEngine) -> tuple[int, int, int]:
    """Examined, expired, orphaned."""
    slices = list(engine.datapath.collect_flows())
    return (
        sum(one.examined for one in slices),
        sum(one.expired for one in slices),
        sum(one.orphaned for one in slices),
    )


@pytest.mark.parametrize("name", STATES)
def test_a_flow_goes_when_the_programs_would_not_find_it_any_more(
    engine: KernelEngine, name: str
) -> None:
    segments, lifetime = STATES[name]
    for direction, flags in segments:
        assert exchange(engine, direction, flags)
    engine.age_flows(lifetime - 5)
    assert sweep(engine) == (1, 0, 0)
    engine.age_flows(10)
    assert sweep(engine) == (1, 1, 0)
    assert list(engine.datapath.read_conntrack()) == []


@pytest.mark.parametrize("name", STATES)
def test_the_programs_and_the_sweep_go_by_the_same_lifetimes(
    engine: KernelEngine, name: str
) -> None:
    """A segment from web passes only as an answer: so it tells whether the programs know the flow."""
    segments, lifetime = STATES[name]
    is_answerable = name != "one found mid-stream"
    for idle, is_known in ((lifetime - 5, is_answerable), (lifetime + 5, False)):
        engine.forget_flows()
        for direction, flags in segments:
            assert exchange(engine, direction, flags)
        engine.age_flows(idle)
        assert exchange(engine, OUT, ACK) is is_known


def test_a_datagram_flow_goes_and_one_that_is_renewed_stays(engine: KernelEngine) -> None:
    def ask(port: int) -> None:
        packet = ip(WEB4, FAR4, UDP, packets.udp(port, 53))
        assert engine.run(WEB_ENDPOINT, OUT, packet).allowed

    for port in (4000, 4001):
        ask(port)
    engine.age_flows(LIFETIMES.datagram + 5)
    ask(4001)
    assert sweep(engine) == (2, 1, 0)
    assert [flow.local_port for flow in engine.datapath.read_conntrack()] == [4001]


def endings(engine: KernelEngine) -> list[FlowEvent]:
    """What a sweep tells of flows that fell silent."""
    records = b"".join(one.endings for one in engine.datapath.collect_flows())
    return list(flow_events(EventDecoder().columns(records)))


def test_the_end_of_a_silent_flow_is_told_with_its_sums_and_its_ends(engine: KernelEngine) -> None:
    for direction, flags in (*ESTABLISHED, (OUT, ACK)):
        assert exchange(engine, direction, flags)
    (flow,) = engine.datapath.read_conntrack()
    engine.age_flows(LIFETIMES.tcp + 5)
    (end,) = endings(engine)
    assert (end.occasion, end.direction, end.reason, end.is_reply) == (Occasion.IDLE, IN, 0, False)
    assert (end.source, end.source_port) == (PEER4, 5000)
    assert (end.destination, end.destination_port) == (WEB4, 8080)
    assert (end.local_identity, end.remote_identity) == (WEB, PEER)
    assert (end.packets, end.reply_packets) == (2, 2)
    assert (end.bytes, end.reply_bytes) == (flow.forward_bytes, flow.reply_bytes)
    assert (end.cookie, end.revision) == (flow.cookie, flow.revision)
    assert (end.endpoint_id, end.ifindex) == (WEB_ENDPOINT.endpoint_id, TEST_INTERFACE)
    assert endings(engine) == []


def test_the_end_of_a_silent_flow_to_the_world_starts_at_the_pod(engine: KernelEngine) -> None:
    asked = ip(WEB4, FAR4, UDP, packets.udp(4000, 53))
    for _ in range(3):
        assert engine.run(WEB_ENDPOINT, OUT, asked).allowed
    engine.age_flows(LIFETIMES.datagram + 5)
    (end,) = endings(engine)
    assert (end.source, end.destination, end.remote_identity) == (WEB4, FAR4, WORLD)
    assert (end.source_port, end.destination_port, end.packets) == (4000, 53, 3)


@pytest.mark.parametrize(
    "name", ["an opening", "one that both sides finished", "one that was reset"]
)
def test_what_was_told_whole_before_ends_without_a_word(engine: KernelEngine, name: str) -> None:
    segments, lifetime = STATES[name]
    for direction, flags in segments:
        assert exchange(engine, direction, flags)
    engine.age_flows(lifetime + 5)
    assert endings(engine) == []
    assert list(engine.datapath.read_conntrack()) == []


def test_flows_of_an_endpoint_that_is_gone_go_at_once(engine: KernelEngine) -> None:
    for direction, flags in ESTABLISHED:
        assert exchange(engine, direction, flags)
    successor = replace(WEB_ENDPOINT, endpoint_id=8)
    engine.datapath.set_endpoint(successor, TEST_INTERFACE)
    assert sweep(engine) == (1, 0, 1)
    engine.datapath.remove_endpoint(TEST_INTERFACE)
    assert sweep(engine) == (0, 0, 0)


def test_the_first_flow_of_a_new_endpoint_is_no_leftover(engine: KernelEngine) -> None:
    """It appears between the beginning of the sweep and the reading of its slice."""
    engine.datapath.remove_endpoint(TEST_INTERFACE)
    slices = engine.datapath.collect_flows()
    next(slices)  # the map of established flows; that of half-open ones is yet to come
    assert exchange(engine, IN, SYN)
    assert [(one.examined, one.orphaned) for one in slices] == [(1, 0)]


@pytest.mark.slow
def test_the_loop_turns_between_the_slices_of_a_sweep(engine: KernelEngine) -> None:
    engine.datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
    for port in range(1_024, 11_024):
        opening = ip(PEER4, WEB4, TCP, packets.tcp(port, 8080, SYN))
        engine.datapath.run_program(IN, opening)
    engine.age_flows(LIFETIMES.tcp_opening + 5)
    held = sum(1 for _ in engine.datapath.read_conntrack())
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def collect() -> FlowCollection:
        collection = FlowCollection(engine.datapath, asyncio.Event(), lambda _: None)
        tasks = [asyncio.create_task(collection.run()), asyncio.create_task(count_turns())]
        while not collection.status.swept_at:
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return collection

    slices = held // libbpf.BATCH
    collection = asyncio.run(collect())
    assert slices >= 1
    assert (collection.status.expired, collection.status.flows) == (held, 0)
    assert turns > 2 * slices


def test_a_sweep_follows_an_endpoint_that_went(engine: KernelEngine) -> None:
    async def collect() -> FlowCollection:
        gone = asyncio.Event()
        collection = FlowCollection(engine.datapath, gone, lambda _: None, seconds=3600)
        task = asyncio.create_task(collection.run())
        while not collection.status.swept_at:
            await asyncio.sleep(0.01)
        for direction, flags in ESTABLISHED:
            assert exchange(engine, direction, flags)
        engine.datapath.remove_endpoint(TEST_INTERFACE)
        gone.set()
        while not collection.status.orphaned:
            await asyncio.sleep(0.01)
        task.cancel()
        return collection

    assert asyncio.run(asyncio.wait_for(collect(), 20)).status.orphaned == 1
