"""Generations that are asked beside the one in force: what differs is counted, and nothing changes.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from netpolicy.evidence import Cause, Shadow
from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import GenerationLabel, KernelDifference, Reason
from nodeagent.plan.generation import Generation, PolicyEntry, Verdict
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, KernelSide, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    DENIED_IN,
    DENIED_OUT,
    PEER,
    RULES,
    WEB,
    WEB_ENDPOINT,
    WORLD,
    WORLD_CLASS,
    small_generation,
    without_rules,
)
from tests.support.kernel_packets import SYN, ip

pytestmark = pytest.mark.kernel

TCP, UDP, ICMP = Protocol.TCP, Protocol.UDP, Protocol.ICMP
WEB4, PEER4, FAR4 = "10.0.0.1", "10.0.0.2", "192.0.2.1"
CANDIDATE, PREVIEW = Shadow.CANDIDATE, Shadow.PREVIEW
WIDE_COOKIE = 77
WIDER: dict[tuple[Direction, int, Protocol, int], PolicyEntry] = {
    **RULES,
    (Direction.EGRESS, WORLD_CLASS, TCP, 443): PolicyEntry(Verdict.ALLOW, WIDE_COOKIE),
}


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    shared_engine.datapath.set_shadows(candidate=None, preview=None)
    shared_engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    return shared_engine


def fill(engine: KernelEngine, generation: Generation) -> int:
    label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=2)
    return engine.datapath.fill(generation, label=label)


def shadow(engine: KernelEngine, generation: Generation) -> int:
    """Set a generation as the candidate."""
    slot = fill(engine, generation)
    engine.datapath.set_shadows(candidate=slot, preview=None)
    return slot


def out(engine: KernelEngine, port: int, source_port: int, flags: int = SYN) -> KernelSide:
    packet = ip(WEB4, FAR4, TCP, packets.tcp(source_port, port, flags))
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet)


def into(engine: KernelEngine, port: int, source_port: int, flags: int = SYN) -> KernelSide:
    packet = ip(PEER4, WEB4, TCP, packets.tcp(source_port, port, flags))
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, packet)


def counted(engine: KernelEngine, shadow: Shadow = CANDIDATE) -> dict[KernelDifference, int]:
    """Differences without their counts and times, to compare; and their counts."""
    return {
        replace(found, count=0, last_seen_ns=0): found.count
        for found in engine.datapath.read_differences(shadow)
    }


def denied_out(port: int, protocol: Protocol = TCP) -> KernelDifference:
    return KernelDifference(
        source_identity=WEB, destination_identity=WORLD, protocol=protocol, port=port,
        direction=Direction.EGRESS, cause=Cause.WOULD_DENY, reason=Reason.POLICY_DENIED,
        cookie=DENIED_OUT, count=0, last_seen_ns=0,
    )  # fmt: skip


def test_what_the_candidate_would_deny_passes_and_is_counted_with_its_policy(
    engine: KernelEngine,
) -> None:
    shadow(engine, without_rules())
    for source_port in range(3):
        assert out(engine, 80, 4000 + source_port).allowed
    assert into(engine, 8080, 4000).allowed
    inwards = KernelDifference(
        source_identity=PEER, destination_identity=WEB, protocol=TCP, port=8080,
        direction=Direction.INGRESS, cause=Cause.WOULD_DENY, reason=Reason.POLICY_DENIED,
        cookie=DENIED_IN, count=0, last_seen_ns=0,
    )  # fmt: skip
    assert counted(engine) == {denied_out(80): 3, inwards: 1}
    assert engine.datapath.read_coverage(CANDIDATE) == {WEB_ENDPOINT.endpoint_id: 4}


def test_what_the_candidate_would_allow_is_dropped_and_counted_each_time(
    engine: KernelEngine,
) -> None:
    shadow(engine, small_generation(WIDER))
    for _ in range(5):
        assert out(engine, 443, 4000).reason == Reason.POLICY_DENIED
    wanted = replace(denied_out(443), cause=Cause.WOULD_ALLOW, reason=0, cookie=WIDE_COOKIE)
    assert counted(engine) == {wanted: 5}
