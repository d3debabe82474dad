"""Flows that both sides speak in, and a million that nobody goes on with.

flood ── SYN, other sources ──▶ to_pod ──▶ half_open      evicts its like
peers ── SYN, answer, ACK   ──▶ to_pod ──▶ conntrack      must not be evicted
"""

from __future__ import annotations

import struct

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry
from nodeagent.plan.generation import PolicyEntry, Verdict
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    wildcard,
)
from tests.support.kernel_packets import ACK, RST, SYN, ip

pytestmark = pytest.mark.kernel

WEB4, PEER4, FAR4 = "10.0.0.1", "10.0.0.2", "192.0.2.1"
TCP, UDP = Protocol.TCP, Protocol.UDP
FLOOD = 1_000_000
ESTABLISHED = 1_000
SHOT = 2
SOURCE_AT, SOURCE_PORT_AT = 26, 34


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    open_to_the_world = wildcard(
        small_generation(), Direction.INGRESS, WORLD_CLASS, PolicyEntry(Verdict.ALLOW, 1)
    )
    shared_engine.load(open_to_the_world, ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    return shared_engine


def into(engine: KernelEngine, payload: bytes, protocol: Protocol = TCP) -> bool:
    packet = ip(FAR4, WEB4, protocol, payload)
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, packet).allowed


def out(engine: KernelEngine, payload: bytes, protocol: Protocol = TCP) -> bool:
    packet = ip(WEB4, FAR4, protocol, payload)
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet).allowed


def only_flow(engine: KernelEngine) -> ConntrackEntry:
    (flow,) = engine.datapath.read_conntrack()
    return flow


def test_a_connection_is_half_open_until_its_opener_answers_the_answer(
    engine: KernelEngine,
) -> None:
    assert into(engine, packets.tcp(4000, 8080, SYN))
    assert only_flow(engine).is_half_open
    assert out(engine, packets.tcp(8080, 4000, SYN | ACK))
    assert only_flow(engine).is_half_open
    assert into(engine, packets.tcp(4000, 8080, ACK))
    flow = only_flow(engine)
    assert not flow.is_half_open
    assert (flow.forward_packets, flow.reply_packets, flow.has_reply) == (2, 1, True)


def test_what_an_answer_does_not_follow_stays_half_open(engine: KernelEngine) -> None:
    for _ in range(3):
        assert into(engine, packets.udp(4000, 53), UDP)
    assert only_flow(engine).is_half_open
    engine.forget_flows()
    for _ in range(3):
        assert into(engine, packets.tcp(4000, 8080, ACK))
    assert only_flow(engine).is_half_open


def test_a_connection_that_is_opened_again_is_one_flow(engine: KernelEngine) -> None:
    for _ in range(2):
        establish(engine, 4000, FAR4)
        assert only_flow(engine).forward_packets == 2
        assert into(engine, packets.tcp(4000, 8080, RST))


def test_a_revoke_cuts_a_flow_that_both_sides_spoke_in(engine: KernelEngine) -> None:
    establish(engine, 4000, FAR4)
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    assert not out(engine, packets.tcp(8080, 4000, ACK))
    assert not into(engine, packets.tcp(4000, 8080, ACK))


@pytest.mark.slow
def test_established_flows_survive_a_million_openings(engine: KernelEngine) -> None:
    ports = range(10_000, 10_000 + ESTABLISHED)
    for port in ports:
        establish(engine, port, PEER4)
    flood(engine)
    for port in ports:
        for direction, packet in (
            (Direction.EGRESS, ip(WEB4, PEER4, TCP, packets.tcp(8080, port, ACK))),
            (Direction.INGRESS, ip(PEER4, WEB4, TCP, packets.tcp(port, 8080, ACK))),
        ):
            side, told = engine.run_and_listen(WEB_ENDPOINT, direction, packet)
            assert side.allowed
            assert told == [], "an event would mean that the flow was judged as a new one"


def establish(engine: KernelEngine, port: int, peer: str) -> None:
    for direction, packet in (
        (Direction.INGRESS, ip(peer, WEB4, TCP, packets.tcp(port, 8080, SYN))),
        (Direction.EGRESS, ip(WEB4, peer, TCP, packets.tcp(8080, port, SYN | ACK))),
        (Direction.INGRESS, ip(peer, WEB4, TCP, packets.tcp(port, 8080, ACK))),
    ):
        assert engine.run(WEB_ENDPOINT, direction, packet).allowed


def flood(engine: KernelEngine) -> None:
    """Openings from forged sources. The pod answers one in ten, as if it listened."""
    engine.datapath.set_endpoint(WEB_ENDPOINT, 1)
    run = engine.datapath.run_program
    opening = bytearray(ip(FAR4, WEB4, TCP, packets.tcp(0, 8080, SYN)))
    for number in range(FLOOD):
        source, port = 0xC6120000 + number // 50_000, 1_024 + number % 50_000
        struct.pack_into("!I", opening, SOURCE_AT, source)
        struct.pack_into("!H", opening, SOURCE_PORT_AT, port)
        assert run(Direction.INGRESS, bytes(opening))[0] != SHOT
        if number % 10 == 0:
            address = ".".join(str(byte) for byte in source.to_bytes(4, "big"))
            answer = ip(WEB4, address, TCP, packets.tcp(8080, port, SYN | ACK))
            assert run(Direction.EGRESS, answer)[0] != SHOT
