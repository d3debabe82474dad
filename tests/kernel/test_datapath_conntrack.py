"""Connections that somebody tries to end, to reopen or to take over from outside.

peer 10.0.0.2 ── handshake ──▶ web :8080       web refuses all else, so what was forgotten is cut
attacker      ── guesses   ──▶ web             knows addresses and ports, not sequence numbers
"""

from __future__ import annotations

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry, Reason
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, KernelSide
from tests.support.kernel_fixtures import (
    ADDRESSES,
    WEB_ENDPOINT,
    without_rules,
)
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip

pytestmark = pytest.mark.kernel

WEB4, PEER4, TCP = "10.0.0.1", "10.0.0.2", Protocol.TCP
CLOSED_SECONDS, OPENING_SECONDS, HOUR = 10, 60, 3600
PEER_AT, WEB_AT = 7_000_000, 4_294_967_000
"""The next sequence number of each side; web's is about to wrap."""


def from_peer(
    engine: KernelEngine, flags: int, sequence: int = PEER_AT, acknowledged: int = WEB_AT
) -> KernelSide:
    segment = packets.tcp(5000, 8080, flags, sequence=sequence, acknowledged=acknowledged)
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, ip(PEER4, WEB4, TCP, segment))


def from_web(
    engine: KernelEngine, flags: int, sequence: int = WEB_AT, acknowledged: int = PEER_AT
) -> KernelSide:
    segment = packets.tcp(8080, 5000, flags, sequence=sequence, acknowledged=acknowledged)
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, ip(WEB4, PEER4, TCP, segment))


def establish(engine: KernelEngine) -> None:
    assert from_peer(engine, SYN, PEER_AT - 1, 0).allowed
    assert from_web(engine, SYN | ACK, WEB_AT - 1).allowed
    assert from_peer(engine, ACK).allowed


def is_remembered(engine: KernelEngine, idle_seconds: int) -> bool:
    """Web refuses egress: only the answers of a flow that is remembered leave it."""
    engine.age_flows(idle_seconds)
    return from_web(engine, ACK).allowed


def only_flow(engine: KernelEngine) -> ConntrackEntry:
    (flow,) = engine.datapath.read_conntrack()
    return flow


def test_an_established_connection_is_remembered_for_hours(engine: KernelEngine) -> None:
    establish(engine)
    assert is_remembered(engine, HOUR)


def test_a_handshake_that_its_opener_does_not_finish_is_forgotten_soon(
    engine: KernelEngine,
) -> None:
    assert from_peer(engine, SYN, PEER_AT - 1, 0).allowed
    assert from_web(engine, SYN | ACK, WEB_AT - 1).allowed
    assert not is_remembered(engine, OPENING_SECONDS + 1)


@pytest.mark.parametrize("ahead", [0, 1460, 65_536], ids=["exact", "a segment on the way", "more"])
def test_a_reset_that_its_receiver_may_believe_ends_the_flow(
    engine: KernelEngine, ahead: int
) -> None:
    establish(engine)
    assert from_peer(engine, RST, PEER_AT + ahead).allowed
    assert not is_remembered(engine, CLOSED_SECONDS + 1)


@pytest.mark.parametrize("off", [-(1 << 16), 18 << 16, 1 << 31])
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_reset_whose_number_is_a_guess_passes_and_shortens_nothing(
    engine: KernelEngine, flags: int, off: int
) -> None:
    establish(engine)
    assert from_peer(engine, flags, PEER_AT + off).allowed, "the receiver judges it by RFC 5961"
    assert is_remembered(engine, HOUR)


def test_a_reset_is_believed_across_the_wrap_of_sequence_numbers(engine: KernelEngine) -> None:
    establish(engine)
    assert from_web(engine, RST, WEB_AT + 1000).allowed
    assert not is_remembered(engine, CLOSED_SECONDS + 1)


def test_a_guessed_fin_behind_a_true_one_does_not_end_the_flow(engine: KernelEngine) -> None:
    establish(engine)
    assert from_web(engine, FIN | ACK).allowed
    assert from_peer(engine, FIN | ACK, PEER_AT + (1 << 30)).allowed
    assert is_remembered(engine, CLOSED_SECONDS + 1)


def test_a_half_closed_connection_goes_on(engine: KernelEngine) -> None:
    establish(engine)
    assert from_peer(engine, FIN | ACK).allowed
    assert is_remembered(engine, HOUR)


def test_a_connection_that_both_sides_closed_is_forgotten(engine: KernelEngine) -> None:
    establish(engine)
    assert from_peer(engine, FIN | ACK).allowed
    assert from_web(engine, FIN | ACK, acknowledged=PEER_AT + 1).allowed
    assert from_peer(engine, ACK, PEER_AT + 1, WEB_AT + 1).allowed
    assert not is_remembered(engine, CLOSED_SECONDS + 1)


def test_a_refused_connection_is_forgotten_soon(engine: KernelEngine) -> None:
    assert from_peer(engine, SYN, PEER_AT - 1, 0).allowed
    assert from_web(engine, RST | ACK, 0).allowed
    assert not is_remembered(engine, CLOSED_SECONDS + 1)


def test_a_forged_opening_of_an_established_connection_shortens_nothing(
    engine: KernelEngine,
) -> None:
    establish(engine)
    before = only_flow(engine)
    assert from_peer(engine, SYN, 99, 0).allowed
    assert only_flow(engine).forward_packets == before.forward_packets + 1
    assert is_remembered(engine, HOUR)


def test_an_opening_after_the_end_starts_the_flow_anew(engine: KernelEngine) -> None:
    establish(engine)
    assert from_peer(engine, RST).allowed
    assert from_peer(engine, SYN, 99, 0).allowed
    flow = only_flow(engine)
    assert (flow.forward_packets, flow.reply_packets, flow.has_reply) == (1, 0, False)
    assert not is_remembered(engine, OPENING_SECONDS + 1)


def test_an_opening_of_an_established_connection_is_judged_by_todays_rules(
    engine: KernelEngine,
) -> None:
    establish(engine)
    engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
    assert from_peer(engine, SYN, 99, 0).reason == Reason.POLICY_DENIED
    assert from_web(engine, ACK).reason == Reason.POLICY_DENIED


def test_what_answers_a_forgotten_connection_cannot_revive_it(engine: KernelEngine) -> None:
    establish(engine)
    assert from_peer(engine, RST).allowed
    engine.age_flows(CLOSED_SECONDS + 1)
    for flags in (ACK, SYN | ACK, FIN | ACK, RST):
        assert from_web(engine, flags).reason == Reason.POLICY_DENIED


def test_the_place_in_the_stream_moves_with_every_acknowledgement(engine: KernelEngine) -> None:
    """Most segments are passed without a look at anything else: they must move it all the same."""
    establish(engine)
    sent = 100 << 20
    for step in range(0, sent + 1, 1 << 20):
        assert from_web(engine, ACK, acknowledged=PEER_AT + step).allowed
    assert from_peer(engine, RST, PEER_AT).allowed
    assert is_remembered(engine, HOUR)
    assert from_web(engine, ACK, acknowledged=PEER_AT + sent).allowed
    assert from_peer(engine, RST, PEER_AT + sent).allowed
    assert not is_remembered(engine, CLOSED_SECONDS + 1)


def test_an_established_flow_is_no_way_around_the_pods_own_mac(engine: KernelEngine) -> None:
    establish(engine)
    assert from_web(engine, ACK).allowed
    answer = ip(WEB4, PEER4, TCP, packets.tcp(8080, 5000, ACK))
    forged = answer[:6] + packets.OTHER_MAC + answer[12:]
    side = engine.run(WEB_ENDPOINT, Direction.EGRESS, forged)
    assert side.reason == Reason.INVALID_SOURCE_MAC
