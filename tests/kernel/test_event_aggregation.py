"""What the programs tell of a flow: its verdict, its flags, its end; of refused packets their sum.

web ── :80/tcp ──▶ world       allowed, told by its opening, each side's first flags, and its close
web ── :81/tcp ──▶ world       refused, told at once and then once a second, with exact sums
"""

from __future__ import annotations

import threading

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import FlowEvent, Occasion, Reason
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import TEST_INTERFACE, KernelEngine
from tests.support.kernel_fixtures import ADDRESSES, DENIED_OUT, WEB_ENDPOINT, small_generation
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip

pytestmark = pytest.mark.kernel

WEB4, FAR4, WEB6, FAR6 = "10.0.0.1", "192.0.2.1", "fd00::1", "2001:db8::1"
TCP = Protocol.TCP
NEW, FLAGS, CLOSED, PACKET = Occasion.NEW, Occasion.FLAGS, Occasion.CLOSED, Occasion.PACKET
PAYLOAD = bytes(100)


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    """With a revision of its own, so that nothing was told under it yet."""
    shared_engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    shared_engine.datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
    shared_engine.forget_events()
    return shared_engine


def out(engine: KernelEngine, flags: int, payload: bytes = b"") -> list[FlowEvent]:
    packet = ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, flags) + payload)
    return engine.run_and_listen(WEB_ENDPOINT, Direction.EGRESS, packet)[1]


def back(engine: KernelEngine, flags: int, payload: bytes = b"") -> list[FlowEvent]:
    packet = ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, flags) + payload)
    return engine.run_and_listen(WEB_ENDPOINT, Direction.INGRESS, packet)[1]


def open_connection(engine: KernelEngine) -> list[FlowEvent]:
    return out(engine, SYN) + back(engine, SYN | ACK) + out(engine, ACK)


def occasions(told: list[FlowEvent]) -> list[tuple[Occasion, bool]]:
    return [(event.occasion, event.is_reply) for event in told]


def refuse(engine: KernelEngine, times: int, *, source_port: int = 5000) -> None:
    packet = packets.opening(WEB4, FAR4, TCP, 81, source_port=source_port)
    engine.datapath.run_program(Direction.EGRESS, packet, repeat=times)


def refused(engine: KernelEngine) -> int:
    return engine.datapath.counters().drops.get((Reason.POLICY_DENIED, Direction.EGRESS), 0)


def test_a_connection_is_told_by_its_opening_its_first_flags_and_its_end(
    engine: KernelEngine,
) -> None:
    told = open_connection(engine)
    told += out(engine, ACK, PAYLOAD) + back(engine, ACK, PAYLOAD) + out(engine, ACK)
    assert occasions(told) == [(NEW, False), (FLAGS, True)]
    told = out(engine, FIN | ACK) + back(engine, ACK) + out(engine, FIN | ACK)
    assert occasions(told) == [(FLAGS, False)]
    (end,) = back(engine, FIN | ACK)
    assert (end.occasion, end.is_reply, end.reason) == (CLOSED, True, 0)
    headers = len(ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, ACK)))
    assert (end.packets, end.bytes) == (6, 6 * headers + len(PAYLOAD))
    assert (end.reply_packets, end.reply_bytes) == (4, 4 * headers + len(PAYLOAD))
    assert out(engine, ACK) + back(engine, RST) == []


@pytest.mark.parametrize("who", [out, back])
def test_a_reset_ends_a_connection_once(engine: KernelEngine, who) -> None:  # type: ignore[no-untyped-def]
    open_connection(engine)
    told = who(engine, RST | ACK) + who(engine, RST) + out(engine, FIN) + back(engine, FIN)
    assert occasions(told) == [(CLOSED, who is back)]


def test_a_port_that_is_used_again_is_a_new_flow_with_flags_and_sums_of_its_own(
    engine: KernelEngine,
) -> None:
    open_connection(engine)
    out(engine, RST)
    assert occasions(open_connection(engine)) == [(NEW, False), (FLAGS, True)]
    (end,) = out(engine, RST)
    assert (end.packets, end.reply_packets) == (3, 1)


def test_of_a_flow_that_goes_on_being_refused_the_first_is_told_then_their_sum(
    engine: KernelEngine,
) -> None:
    before = refused(engine)
    refuse(engine, 5000)
    (first,) = engine.waiting_events()
    assert (first.occasion, first.packets, first.cookie) == (NEW, 1, DENIED_OUT)
    engine.datapath.tell_refusals()
    assert engine.waiting_events() == []
    engine.age_refusals(1)
    refuse(engine, 1)
    (total,) = engine.waiting_events()
    assert (total.occasion, total.packets, total.cookie) == (PACKET, 5000, DENIED_OUT)
    assert total.bytes == 5000 * first.bytes
    assert (total.source, total.source_port, total.reason) == (WEB4, 5000, Reason.POLICY_DENIED)
    assert first.packets + total.packets == refused(engine) - before


def test_the_sweep_tells_what_no_packet_asks_for_any_more(engine: KernelEngine) -> None:
    for port in range(5000, 5010):
        refuse(engine, port - 4998, source_port=port)
    assert [event.packets for event in engine.waiting_events()] == [1] * 10
    engine.age_refusals(1)
    engine.datapath.tell_refusals()
    sums = {event.source_port: event.packets for event in engine.waiting_events()}
    assert sums == {port: port - 4999 for port in range(5000, 5010)}
    engine.age_refusals(1)
    engine.datapath.tell_refusals()
    assert engine.waiting_events() == []


def test_a_refusal_under_another_revision_is_told_at_once(engine: KernelEngine) -> None:
    refuse(engine, 3)
    engine.datapath.bump_revision()
    refuse(engine, 3)
    told = engine.waiting_events()
    assert [event.packets for event in told] == [1, 1]
    assert told[0].revision < told[1].revision
    engine.age_refusals(1)
    engine.datapath.tell_refusals()
    assert [event.packets for event in engine.waiting_events()] == [2, 2]


def test_two_processors_refusing_one_flow_lose_none_of_it(engine: KernelEngine) -> None:
    before = refused(engine)
    threads = [threading.Thread(target=refuse, args=(engine, 200_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        engine.datapath.tell_refusals()
    engine.age_refusals(1)
    engine.datapath.tell_refusals()
    told = sum(event.packets for event in engine.waiting_events())
    assert told == refused(engine) - before == 800_000


def test_refusals_that_a_full_ring_has_no_room_for_are_counted_exactly(
    engine: KernelEngine,
) -> None:
    opening = packets.opening(WEB4, FAR4, TCP, 80, source_port=4000)
    engine.datapath.run_program(Direction.EGRESS, opening, repeat=100_000)
    before = engine.datapath.counters()
    for port in range(6000, 6100):
        refuse(engine, 7, source_port=port)
    after = engine.datapath.counters()
    assert after.lost_events - before.lost_events == 100
    assert after.untold_refusals - before.untold_refusals == 100
    engine.forget_events()
    engine.age_refusals(1)
    engine.datapath.tell_refusals()
    told = sum(event.packets for event in engine.waiting_events())
    assert (
        told + 100
        == 700
        == refused(engine) - before.drops.get((Reason.POLICY_DENIED, Direction.EGRESS), 0)
    )


UNREADABLE = {
    "no room for ports": packets.opening(WEB6, FAR6, TCP, 80, source_port=4000)[: 14 + 40 + 3],
    "a tag": packets.ethernet(bytes(50), packets.VLAN),
    "an unknown ethertype": packets.ethernet(bytes(50), 0x1234),
}


@pytest.mark.parametrize("packet", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_packets_are_told_once_and_added_up(engine: KernelEngine, packet: bytes) -> None:
    engine.datapath.run_program(Direction.EGRESS, packet, repeat=1000)
    (first,) = engine.waiting_events()
    engine.age_refusals(1)
    engine.datapath.tell_refusals()
    (total,) = engine.waiting_events()
    assert (first.packets, total.packets) == (1, 999)
    assert first.reason == total.reason != 0
