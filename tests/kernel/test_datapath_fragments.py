"""Datagrams in fragments: the later ones go where the first one went, or nowhere.

first ── judged, passed ──▶ fragments (endpoint, addresses, id) ◀── asked ── later
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Reason
from tests.support.kernel_engine import KernelEngine, KernelSide
from tests.support.kernel_fixtures import (
    ADDRESSES,
    WEB_ENDPOINT,
    small_generation,
    without_rules,
)
from tests.support.kernel_packets import ACK, extension, fragment, icmp, ip, tcp, udp
from tests.support.kernel_packets import fragment_header as header

pytestmark = pytest.mark.kernel

TCP, UDP, ICMP = Protocol.TCP, Protocol.UDP, Protocol.ICMP
WEB4, WEB6, FAR4, FAR6, PEER4 = "10.0.0.1", "fd00::1", "192.0.2.1", "2001:db8::1", "10.0.0.2"
ENDS = pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
DATA = bytes(56)
DATAGRAM = udp(4000, 53, DATA)


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    shared_engine.load(small_generation(endpoint_ids=(7, 8)), ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    return shared_engine


def out(engine: KernelEngine, packet: bytes) -> KernelSide:
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet)


def first(web: str, far: str, payload: bytes = DATAGRAM, identification: int = 1) -> bytes:
    return fragment(web, far, UDP, payload, more=True, identification=identification)


def later(web: str, far: str, identification: int = 1, offset: int = len(DATAGRAM)) -> bytes:
    return fragment(web, far, UDP, DATA, offset=offset, identification=identification)


@ENDS
def test_later_fragments_follow_a_first_one_that_passed(
    engine: KernelEngine, web: str, far: str
) -> None:
    assert out(engine, first(web, far)).allowed
    assert out(engine, later(web, far)).allowed
    assert out(engine, later(web, far, offset=1024)).allowed


@ENDS
def test_a_later_fragment_that_comes_first_is_dropped(
    engine: KernelEngine, web: str, far: str
) -> None:
    assert out(engine, later(web, far)).reason == Reason.NO_FIRST_FRAGMENT
    assert out(engine, first(web, far)).allowed


@ENDS
def test_a_refused_first_fragment_lets_nothing_follow(
    engine: KernelEngine, web: str, far: str
) -> None:
    refused = first(web, far, udp(4000, 54, DATA))
    assert out(engine, refused).reason == Reason.POLICY_DENIED
    assert out(engine, later(web, far)).reason == Reason.NO_FIRST_FRAGMENT


@ENDS
def test_fragments_of_another_datagram_do_not_follow(
    engine: KernelEngine, web: str, far: str
) -> None:
    assert out(engine, first(web, far)).allowed
    assert out(engine, later(web, far, identification=2)).reason == Reason.NO_FIRST_FRAGMENT
    as_another = fragment(WEB4, FAR4, TCP, DATA, offset=64)
    assert out(engine, as_another).reason == Reason.NO_FIRST_FRAGMENT
    elsewhere = later(WEB4, PEER4)
    assert out(engine, elsewhere).reason == Reason.NO_FIRST_FRAGMENT


def test_fragments_of_another_endpoint_or_direction_do_not_follow(engine: KernelEngine) -> None:
    assert out(engine, first(WEB4, FAR4)).allowed
    other = replace(WEB_ENDPOINT, endpoint_id=8, name="other")
    side = engine.run(other, Direction.EGRESS, later(WEB4, FAR4))
    assert side.reason == Reason.NO_FIRST_FRAGMENT
    side = engine.run(WEB_ENDPOINT, Direction.INGRESS, later(WEB4, FAR4))
    assert side.reason == Reason.NO_FIRST_FRAGMENT


def test_a_fragment_with_a_forged_source_is_dropped_for_that(engine: KernelEngine) -> None:
    assert out(engine, later(PEER4, FAR4)).reason == Reason.INVALID_SOURCE_IP


@ENDS
def test_a_fragment_that_would_rewrite_the_first_is_dropped(
    engine: KernelEngine, web: str, far: str
) -> None:
    assert out(engine, first(web, far)).allowed
    assert out(engine, later(web, far, offset=8)).reason == Reason.FRAGMENT_OVERLAP
    assert out(engine, later(web, far, offset=len(DATAGRAM) - 8)).reason == Reason.FRAGMENT_OVERLAP


@ENDS
def test_a_revoke_between_fragments_cuts_the_datagram(
    engine: KernelEngine, web: str, far: str
) -> None:
    assert out(engine, first(web, far)).allowed
    engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, later(web, far)).reason == Reason.POLICY_DENIED


@ENDS
def test_a_first_fragment_is_forgotten_soon(engine: KernelEngine, web: str, far: str) -> None:
    assert out(engine, first(web, far)).allowed
    engine.age_fragments(29)
    assert out(engine, later(web, far)).allowed
    engine.age_fragments(2)
    assert out(engine, later(web, far)).reason == Reason.NO_FIRST_FRAGMENT


@ENDS
def test_an_answer_in_fragments_passes(engine: KernelEngine, web: str, far: str) -> None:
    assert out(engine, ip(web, far, UDP, udp(4000, 53))).allowed
    for packet in (
        fragment(far, web, UDP, udp(53, 4000, DATA), more=True),
        fragment(far, web, UDP, DATA, offset=len(DATAGRAM)),
    ):
        assert engine.run(WEB_ENDPOINT, Direction.INGRESS, packet).allowed


def test_a_segment_and_an_echo_in_fragments_belong_to_their_flows(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, TCP, tcp(4000, 80))).allowed
    segment = tcp(4000, 80, ACK) + bytes(4)
    assert out(engine, fragment(WEB4, FAR4, TCP, segment, more=True)).allowed
    assert out(engine, fragment(WEB4, FAR4, TCP, DATA, offset=len(segment))).allowed
    echo = icmp(8, identifier=9)
    assert out(engine, fragment(WEB4, FAR4, ICMP, echo, more=True)).allowed
    assert out(engine, fragment(WEB4, FAR4, ICMP, DATA, offset=len(echo))).allowed


def test_the_ipv6_header_of_a_later_fragment_need_not_tell_the_protocol(
    engine: KernelEngine,
) -> None:
    """Behind the fragment header of the first one there are extensions, whose number the later ones
    repeat; what the receiver goes by is the first one's."""
    chain = extension(UDP) + DATAGRAM
    destination_options = 60
    assert out(engine, fragment(WEB6, FAR6, destination_options, chain, more=True)).allowed
    for said in (destination_options, TCP):
        assert out(engine, fragment(WEB6, FAR6, said, DATA, offset=len(chain))).allowed
    overlapping = fragment(WEB6, FAR6, destination_options, DATA, offset=len(chain) - 8)
    assert out(engine, overlapping).reason == Reason.FRAGMENT_OVERLAP


def test_a_fragment_that_is_the_whole_datagram_is_a_packet_like_any_other(
    engine: KernelEngine,
) -> None:
    whole = ip(WEB6, FAR6, 44, header(UDP) + DATAGRAM)
    assert out(engine, whole).allowed
    assert out(engine, later(WEB6, FAR6)).reason == Reason.NO_FIRST_FRAGMENT
