"""Flows: what an answer is, what ends one, and what a revoke does to it.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Occasion, Reason
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
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip
from tests.support.kernel_web import (
    FAR4,
    FAR6,
    ICMP,
    ICMPV6,
    PEER4,
    SCTP,
    TCP,
    UDP,
    WEB4,
    WEB6,
    into,
    out,
    revoke,
)

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
def test_replies_pass_and_tell_no_verdict(engine: KernelEngine, web: str, far: str) -> None:
    assert out(engine, ip(web, far, TCP, packets.tcp(4000, 80))).allowed
    reply = ip(far, web, TCP, packets.tcp(80, 4000, SYN | ACK))
    side, told = engine.run_and_listen(WEB_ENDPOINT, Direction.INGRESS, reply)
    assert side.allowed
    assert [(event.occasion, event.is_reply) for event in told] == [(Occasion.FLAGS, True)]


def test_a_datagrams_reply_passes_but_only_to_the_port_it_came_from(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, UDP, packets.udp(4000, 53))).allowed
    assert into(engine, ip(FAR4, WEB4, UDP, packets.udp(53, 4000))).allowed
    assert not into(engine, ip(FAR4, WEB4, UDP, packets.udp(53, 4001))).allowed
    assert not into(engine, ip(FAR4, WEB4, UDP, packets.udp(54, 4000))).allowed


@pytest.mark.parametrize(
    ("protocol", "web", "far", "ask", "answer"),
    [(ICMP, WEB4, FAR4, 8, 0), (ICMPV6, WEB6, FAR6, 128, 129)],
)
def test_an_echo_is_answered_only_if_asked_for(
    engine: KernelEngine, protocol: Protocol, web: str, far: str, ask: int, answer: int
) -> None:
    unasked = ip(far, web, protocol, packets.icmp(answer, identifier=9))
    assert into(engine, unasked).reason == Reason.POLICY_DENIED
    assert out(engine, ip(web, far, protocol, packets.icmp(ask, identifier=9))).allowed
    assert into(engine, unasked).allowed
    other = ip(far, web, protocol, packets.icmp(answer, identifier=10))
    assert not into(engine, other).allowed


def test_a_ping_with_the_identifier_of_ours_is_no_reply(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, ICMP, packets.icmp(8, identifier=9))).allowed
    theirs = ip(FAR4, WEB4, ICMP, packets.icmp(8, identifier=9))
    assert into(engine, theirs).reason == Reason.POLICY_DENIED


def test_a_revoke_cuts_an_established_flow_from_both_sides_and_it_stays_cut(
    engine: KernelEngine,
) -> None:
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).allowed
    assert into(engine, ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, SYN | ACK))).allowed
    revoke(engine)
    backward = ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, ACK))
    forward = ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, ACK))
    for packet, way in [(backward, into), (forward, out), (backward, into), (forward, out)]:
        assert way(engine, packet).reason == Reason.POLICY_DENIED


def test_a_revoke_is_told_once_as_a_changed_verdict(engine: KernelEngine) -> None:
    out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80)))
    revoke(engine)
    forward = ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, ACK))
    occasions = [
        engine.run_and_listen(WEB_ENDPOINT, Direction.EGRESS, forward)[1][0].occasion
        for _ in range(2)
    ]
    assert occasions == [Occasion.REJUDGED, Occasion.PACKET]


def test_a_flow_that_is_allowed_again_goes_on(engine: KernelEngine) -> None:
    out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80)))
    revoke(engine)
    forward = ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, ACK))
    assert not out(engine, forward).allowed
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, forward).allowed
    assert into(engine, ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, ACK))).allowed


def test_an_established_flow_is_judged_in_the_direction_it_was_opened_in(
    engine: KernelEngine,
) -> None:
    """web's egress is closed but for 80: its answers from 8080 pass all the same."""
    assert into(engine, ip(PEER4, WEB4, TCP, packets.tcp(5000, 8080))).allowed
    engine.datapath.bump_revision()
    assert out(engine, ip(WEB4, PEER4, TCP, packets.tcp(8080, 5000, SYN | ACK))).allowed


def test_a_reused_port_does_not_inherit_a_stale_allow(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).allowed
    revoke(engine)
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, SYN))).reason == (
        Reason.POLICY_DENIED
    )


def test_an_opening_against_a_flows_direction_is_judged_for_itself(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).allowed
    assert into(engine, ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, SYN))).reason == (
        Reason.POLICY_DENIED
    )
    assert into(engine, ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, ACK))).allowed


@pytest.mark.parametrize("flags", [ACK, SYN | ACK, FIN | ACK, RST, 0])
def test_a_segment_without_a_known_flow_opens_none(engine: KernelEngine, flags: int) -> None:
    """The server's retransmission must not revive a connection whose entry is gone."""
    open_out = wildcard(
        small_generation({}), Direction.EGRESS, WORLD_CLASS, PolicyEntry(Verdict.ALLOW, 1)
    )
    engine.load(open_out, ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(8080, 5000, flags))).allowed
    backward = ip(FAR4, WEB4, TCP, packets.tcp(5000, 8080, ACK))
    assert into(engine, backward).reason == Reason.POLICY_DENIED
    assert into(engine, ip(FAR4, WEB4, TCP, packets.tcp(5000, 8080, SYN))).reason == (
        Reason.POLICY_DENIED
    )


def test_an_association_without_its_opening_lets_nothing_in(engine: KernelEngine) -> None:
    data_chunk = 0
    assert out(engine, ip(WEB4, FAR4, SCTP, packets.sctp(900, 100, data_chunk))).allowed
    assert not into(engine, ip(FAR4, WEB4, SCTP, packets.sctp(100, 900, data_chunk))).allowed
    assert out(engine, ip(WEB4, FAR4, SCTP, packets.sctp(901, 100))).allowed
    assert into(engine, ip(FAR4, WEB4, SCTP, packets.sctp(100, 901, data_chunk))).allowed


def test_a_flow_of_one_pod_is_not_used_by_another(engine: KernelEngine) -> None:
    other = replace(WEB_ENDPOINT, endpoint_id=8, name="other")
    engine.load(small_generation(endpoint_ids=(7, 8)), ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, UDP, packets.udp(4000, 53))).allowed
    reply = ip(FAR4, WEB4, UDP, packets.udp(53, 4000))
    assert engine.run(other, Direction.INGRESS, reply).reason == Reason.POLICY_DENIED
    assert into(engine, reply).allowed


def test_an_idle_datagram_flow_is_forgotten(engine: KernelEngine) -> None:
    """Else one question would open the pod's port to the answerer for good."""
    assert out(engine, ip(WEB4, FAR4, UDP, packets.udp(4000, 53))).allowed
    reply = ip(FAR4, WEB4, UDP, packets.udp(53, 4000))
    assert into(engine, reply).allowed
    engine.age_flows(61)
    assert into(engine, reply).reason == Reason.POLICY_DENIED


def test_a_closed_connection_is_forgotten_soon_and_an_open_one_is_not(
    engine: KernelEngine,
) -> None:
    for source_port, closing in ((4000, 0), (4001, FIN)):
        assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(source_port, 80))).allowed
        backward = ip(FAR4, WEB4, TCP, packets.tcp(80, source_port, ACK | closing))
        forward = ip(WEB4, FAR4, TCP, packets.tcp(source_port, 80, ACK | closing))
        assert into(engine, backward).allowed
        assert out(engine, forward).allowed
    engine.age_flows(11)
    assert into(engine, ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, ACK))).allowed
    assert not into(engine, ip(FAR4, WEB4, TCP, packets.tcp(80, 4001, ACK))).allowed
