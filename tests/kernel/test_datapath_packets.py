"""Packets of every shape, honest or not, against the real programs.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import DatapathError, GenerationLabel, Occasion, Reason
from nodeagent.plan.generation import PolicyEntry, TableFlag, Verdict
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, KernelSide, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    DENIED_IN,
    DENIED_OUT,
    IN_COOKIE,
    OUT_COOKIE,
    PEER_CLASS,
    RULES,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    wildcard,
    without_rules,
)
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip

pytestmark = pytest.mark.kernel

TCP, UDP, SCTP, ICMP, ICMPV6 = (
    Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6,
)  # fmt: skip
WEB4, WEB6, PEER4, PEER6, FAR4, FAR6 = (
    "10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "192.0.2.1", "2001:db8::1",
)  # fmt: skip


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    shared_engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    return shared_engine


def out(engine: KernelEngine, packet: bytes) -> KernelSide:
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet)


def into(engine: KernelEngine, packet: bytes) -> KernelSide:
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, packet)


def revoke(engine: KernelEngine) -> None:
    engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])


# What rules say ------------------------------------------------------------------------------


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (SCTP, 100)])
def test_what_a_rule_allows_passes_and_names_it(
    engine: KernelEngine, web: str, far: str, protocol: Protocol, port: int
) -> None:
    answer = engine.judge(web, far, protocol, port)
    assert answer.allowed
    assert answer.egress == KernelSide(allowed=True, reason=0, cookie=OUT_COOKIE)


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 81), (UDP, 80), (SCTP, 80)])
def test_what_no_rule_allows_is_dropped_and_names_the_isolating_policies(
    engine: KernelEngine, web: str, far: str, protocol: Protocol, port: int
) -> None:
    egress = engine.judge(web, far, protocol, port).egress
    assert egress == KernelSide(allowed=False, reason=Reason.POLICY_DENIED, cookie=DENIED_OUT)


def test_ingress_is_judged_by_the_destinations_port_and_the_sources_class(
    engine: KernelEngine,
) -> None:
    assert engine.judge(PEER4, WEB4, TCP, 8080).ingress == KernelSide(
        allowed=True, reason=0, cookie=IN_COOKIE
    )
    assert engine.judge(PEER6, WEB6, TCP, 8080).allowed
    assert engine.judge(FAR4, WEB4, TCP, 8080).ingress == KernelSide(
        allowed=False, reason=Reason.POLICY_DENIED, cookie=DENIED_IN
    )


def test_an_endpoint_without_default_deny_is_open(engine: KernelEngine) -> None:
    engine.load(small_generation({}, flags=TableFlag(0)), ADDRESSES, [WEB_ENDPOINT])
    assert engine.judge(WEB4, FAR4, TCP, 9).allowed
    assert engine.judge(FAR6, WEB6, UDP, 9).allowed


def test_a_deny_for_any_port_beats_a_narrower_allow(engine: KernelEngine) -> None:
    denied = PolicyEntry(Verdict.DENY, 99)
    engine.load(
        wildcard(small_generation(), Direction.EGRESS, WORLD_CLASS, denied),
        ADDRESSES,
        [WEB_ENDPOINT],
    )
    assert engine.judge(WEB4, FAR4, TCP, 80).egress == KernelSide(
        allowed=False, reason=Reason.POLICY_DENY, cookie=99
    )


def test_a_deny_for_any_peer_beats_an_allow_for_one(engine: KernelEngine) -> None:
    denied = PolicyEntry(Verdict.DENY, 99)
    engine.load(
        wildcard(small_generation(), Direction.INGRESS, 0, denied), ADDRESSES, [WEB_ENDPOINT]
    )
    assert engine.judge(PEER4, WEB4, TCP, 8080).deciding == KernelSide(
        allowed=False, reason=Reason.POLICY_DENY, cookie=99
    )


def test_of_equal_verdicts_the_most_specific_entry_is_named(engine: KernelEngine) -> None:
    broad = PolicyEntry(Verdict.ALLOW, 98)
    engine.load(
        wildcard(small_generation(), Direction.INGRESS, PEER_CLASS, broad),
        ADDRESSES,
        [WEB_ENDPOINT],
    )
    named = engine.judge(PEER4, WEB4, TCP, 8080).ingress
    assert named
    assert named.cookie == IN_COOKIE
    other = engine.judge(PEER4, WEB4, TCP, 9).ingress
    assert other
    assert other.cookie == 98


def test_a_redirect_without_a_proxy_is_dropped(engine: KernelEngine) -> None:
    key = (Direction.EGRESS, WORLD_CLASS, TCP, 80)
    redirected = small_generation({**RULES, key: PolicyEntry(Verdict.REDIRECT, 5, 15001)})
    engine.load(redirected, ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).reason == Reason.NO_PROXY


def test_an_address_that_nobody_knows_is_dropped() -> None:
    generation = small_generation()
    label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=1)
    with kernel_engine() as fresh:
        fresh.datapath.activate(fresh.datapath.fill(generation, label=label))
        packet = ip(WEB4, FAR4, TCP, packets.tcp(1, 80))
        assert out(fresh, packet).reason == Reason.INVALID_IDENTITY


def test_ipv4_never_falls_to_the_ipv6_world(engine: KernelEngine) -> None:
    with pytest.raises(DatapathError, match=r"0\.0\.0\.0/0"):
        engine.datapath.upsert_addresses(replace(ADDRESSES, prefixes={"::/0": 2}))


def test_an_identity_without_a_class_is_dropped(engine: KernelEngine) -> None:
    unknown = replace(ADDRESSES, exact={**ADDRESSES.exact, FAR4: 4242})
    engine.load(small_generation(), unknown, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(1, 80))).reason == Reason.INVALID_IDENTITY


def test_an_endpoint_that_the_generation_does_not_know_is_dropped(engine: KernelEngine) -> None:
    stranger = replace(WEB_ENDPOINT, endpoint_id=8)
    packet = ip(WEB4, FAR4, TCP, packets.tcp(1, 80))
    assert engine.run(stranger, Direction.EGRESS, packet).reason == Reason.NO_TABLE


def test_before_the_first_generation_everything_is_dropped() -> None:
    with kernel_engine() as fresh:
        packet = ip(WEB4, FAR4, TCP, packets.tcp(1, 80))
        assert out(fresh, packet) == KernelSide(allowed=False, reason=Reason.NOT_READY, cookie=0)


# What cannot be judged -----------------------------------------------------------------------

GOOD = packets.tcp(4000, 80)
HOP, ROUTING, FRAGMENT, DESTINATION, AUTHENTICATION = 0, 43, 44, 60, 51
REFUSED = {
    "later fragment without a first one": (
        packets.fragment(WEB4, FAR4, TCP, GOOD, offset=128), Reason.NO_FIRST_FRAGMENT),
    "later IPv6 fragment without a first one": (
        packets.fragment(WEB6, FAR6, TCP, GOOD, offset=128), Reason.NO_FIRST_FRAGMENT),
    "later IPv6 fragment behind an extension": (
        ip(WEB6, FAR6, HOP, packets.extension(FRAGMENT)
           + packets.fragment_header(TCP, offset=128) + GOOD), Reason.NO_FIRST_FRAGMENT),
    "fragment header in a fragment": (
        packets.fragment(WEB6, FAR6, FRAGMENT, packets.fragment_header(TCP, more=True) + bytes(40),
                         more=True), Reason.FRAGMENT),
    "fragment that more follow, of an odd length": (
        packets.fragment(WEB4, FAR4, TCP, GOOD + bytes(1), more=True), Reason.FRAGMENT),
    "fragment beyond the longest datagram": (
        packets.fragment(WEB4, FAR4, UDP, bytes(64), offset=65_504), Reason.FRAGMENT),
    "IPv6 fragment beyond the longest datagram": (
        packets.fragment(WEB6, FAR6, UDP, bytes(64), offset=65_504), Reason.FRAGMENT),
    "first fragment that ends before its header does": (
        packets.fragment(WEB4, FAR4, TCP, GOOD[:16], more=True), Reason.TRUNCATED),
    "first IPv6 fragment that ends before its header does": (
        packets.fragment(WEB6, FAR6, TCP, GOOD[:16], more=True), Reason.TRUNCATED),
    "empty fragment": (
        packets.fragment(WEB4, FAR4, TCP, b"", offset=64), Reason.TRUNCATED),
    "neighbour discovery in fragments": (
        ip(WEB6, "ff02::1", FRAGMENT,
           packets.fragment_header(ICMPV6, more=True) + packets.icmp(135), hop_limit=255),
        Reason.FRAGMENT),
    "too many IPv6 extensions": (
        ip(WEB6, FAR6, DESTINATION, packets.extension(DESTINATION) * 7 + GOOD),
        Reason.INVALID_IPV6_EXTENSION),
    "IPv6 extension that runs out of the packet": (
        ip(WEB6, FAR6, HOP, packets.extension(TCP)[:2] + b"\xff"), Reason.TRUNCATED),
    "VLAN": (
        packets.ethernet(b"\x00\x01\x08\x00" + packets.ipv4(WEB4, FAR4, TCP, GOOD), packets.VLAN),
        Reason.VLAN),
    "QinQ": (
        packets.ethernet(b"\x00\x01\x81\x00\x00\x02\x08\x00"
                         + packets.ipv4(WEB4, FAR4, TCP, GOOD), packets.QINQ), Reason.VLAN),
    "802.3": (packets.ethernet(bytes(46), 46), Reason.UNSUPPORTED_L2),
    "MPLS": (packets.ethernet(bytes(46), 0x8847), Reason.UNSUPPORTED_L3),
    "TCP header cut short": (ip(WEB4, FAR4, TCP, GOOD[:12]), Reason.TRUNCATED),
    "ports only": (ip(WEB4, FAR4, TCP, GOOD[:4]), Reason.TRUNCATED),
    "UDP header cut short": (ip(WEB6, FAR6, UDP, packets.udp(1, 53)[:7]), Reason.TRUNCATED),
    "ICMP header cut short": (ip(WEB4, FAR4, ICMP, b"\x08\x00\x00\x00"), Reason.TRUNCATED),
    "TCP header whose end is only padding": (
        packets.ethernet(packets.ipv4(WEB4, FAR4, TCP, GOOD, total_length=28) + bytes(20),
                         packets.IPV4), Reason.TRUNCATED),
    "IPv6 payload that ends in padding": (
        packets.ethernet(packets.ipv6(WEB6, FAR6, TCP, GOOD, payload_length=4), packets.IPV6),
        Reason.TRUNCATED),
    "IP packet longer than the frame": (
        packets.ethernet(packets.ipv4(WEB4, FAR4, TCP, GOOD, total_length=1400), packets.IPV4),
        Reason.TRUNCATED),
    "TCP header that claims less than its minimum": (
        ip(WEB4, FAR4, TCP, GOOD[:12] + b"\x10" + GOOD[13:]), Reason.TRUNCATED),
    "IPv4 header that claims less than its minimum": (
        packets.ethernet(b"\x44" + packets.ipv4(WEB4, FAR4, TCP, GOOD)[1:], packets.IPV4),
        Reason.INVALID_PACKET),
    "IPv6 under IPv4's ethertype": (
        packets.ethernet(packets.ipv6(WEB6, FAR6, TCP, GOOD), packets.IPV4), Reason.INVALID_PACKET),
    "IPv4-mapped source in IPv6": (
        ip(f"::ffff:{WEB4}", FAR6, TCP, GOOD), Reason.MAPPED_ADDRESS),
    "IPv4-mapped destination in IPv6": (
        ip(WEB6, f"::ffff:{FAR4}", TCP, GOOD), Reason.MAPPED_ADDRESS),
    "GRE": (ip(WEB4, FAR4, 47, bytes(20)), Reason.UNKNOWN_L4),
    "ICMPv6 in IPv4": (ip(WEB4, FAR4, ICMPV6, packets.icmp(128)), Reason.UNKNOWN_L4),
    "authentication header": (
        ip(WEB6, FAR6, AUTHENTICATION, packets.extension(TCP) + GOOD), Reason.UNKNOWN_L4),
    "another pod's source": (ip(PEER4, FAR4, TCP, GOOD), Reason.INVALID_SOURCE_IP),
    "another pod's source in IPv6": (ip(PEER6, FAR6, TCP, GOOD), Reason.INVALID_SOURCE_IP),
    "neighbour's advertisement whose target is only padding": (
        packets.ethernet(packets.ipv6(WEB6, "ff02::1", ICMPV6, packets.icmp(136, data=b""),
                                      hop_limit=255) + bytes.fromhex("fe80" + "00" * 14),
                         packets.IPV6), Reason.TRUNCATED),
    "ARP of other hardware than Ethernet": (
        packets.arp(WEB4, PEER4).replace(b"\0\x01\x08\0", b"\0\x06\x08\0"),
        Reason.INVALID_NEIGHBOUR),
    "reverse ARP": (packets.arp(WEB4, PEER4, 3), Reason.INVALID_NEIGHBOUR),
    "ARP cut short": (packets.arp(WEB4, PEER4)[:-1], Reason.TRUNCATED),
    "IPv4 loose source route": (
        ip(WEB4, FAR4, TCP, GOOD, options=b"\x83\x07\x04\x0a\0\0\x09\0"), Reason.SOURCE_ROUTE),
    "IPv4 strict source route behind another option": (
        ip(WEB4, FAR4, TCP, GOOD, options=b"\x01\x94\x04\0\0\x89\x03\x04"), Reason.SOURCE_ROUTE),
    "IPv4 option that runs out of the header": (
        ip(WEB4, FAR4, TCP, GOOD, options=b"\x94\x09\0\0\0\0\0\0"), Reason.INVALID_PACKET),
    "IPv6 routing header with a segment left": (
        ip(WEB6, FAR6, ROUTING, packets.source_routed(following=TCP, left=1) + GOOD),
        Reason.SOURCE_ROUTE),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_judged_is_dropped_with_its_reason(engine: KernelEngine, name: str) -> None:
    everything_open = small_generation({}, flags=TableFlag(0))
    engine.load(everything_open, ADDRESSES, [WEB_ENDPOINT])
    packet, reason = REFUSED[name]
    assert out(engine, packet) == KernelSide(allowed=False, reason=reason, cookie=0)


@pytest.mark.parametrize(
    "packet",
    [
        ip(WEB4, FAR4, TCP, GOOD, options=b"\x07\x27\x04" + bytes(37)),
        ip(WEB6, FAR6, ROUTING, packets.source_routed(following=TCP, left=0) + GOOD),
        ip(WEB6, FAR6, HOP, packets.extension(DESTINATION) + packets.extension(TCP, 2) + GOOD),
    ],
    ids=["IPv4 options", "IPv6 routing header at its end", "IPv6 extensions"],
)
def test_ports_behind_options_are_found(engine: KernelEngine, packet: bytes) -> None:
    assert out(engine, packet).allowed
    shifted = packet.replace(GOOD, packets.tcp(4001, 81))
    assert out(engine, shifted).reason == Reason.POLICY_DENIED


def test_an_interface_that_is_nobodys_drops_everything(engine: KernelEngine) -> None:
    engine.datapath.remove_endpoint(1)
    result, _ = engine.datapath.run_program(Direction.EGRESS, ip(WEB4, FAR4, TCP, GOOD))
    assert result == 2  # TC_ACT_SHOT


# Neighbours ----------------------------------------------------------------------------------


def discovery(
    kind: int, *, source: str, target: str = "", options: bytes = b"", hop_limit: int = 255
) -> bytes:
    data = (IPv6Address(target).packed if target else b"") + options
    return ip(source, "ff02::1", ICMPV6, packets.icmp(kind, data=data), hop_limit=hop_limit)


OWN_LINK, OTHER_LINK = (packets.link_option(1, mac) for mac in (packets.OWN_MAC, packets.OTHER_MAC))


def test_neighbour_discovery_and_arp_pass(engine: KernelEngine) -> None:
    assert out(engine, packets.arp(WEB4, PEER4)).allowed
    assert out(engine, packets.arp("0.0.0.0", WEB4)).allowed
    assert out(engine, packets.arp(WEB4, WEB4, 2)).allowed
    assert into(engine, packets.arp(PEER4, WEB4, mac=packets.OTHER_MAC)).allowed
    assert out(engine, discovery(133, source="fe80::1", options=OWN_LINK)).allowed
    assert out(engine, discovery(135, source="fe80::1", target=PEER6, options=OWN_LINK)).allowed
    assert out(engine, discovery(135, source="::", target=WEB6)).allowed
    nonce = b"\x0e\x01" + bytes(6)
    answer = discovery(136, source=WEB6, target=WEB6, options=nonce + packets.link_option(2))
    assert out(engine, answer).allowed
    router = discovery(134, source="fe80::9", options=bytes(8) + OTHER_LINK)
    assert into(engine, router).allowed


DISHONEST = {
    "answer for another's address": (packets.arp(PEER4, WEB4, 2), Reason.NEIGHBOUR_ADDRESS),
    "question from another's address": (packets.arp(PEER4, WEB4), Reason.NEIGHBOUR_ADDRESS),
    "gratuitous claim of another's address": (
        packets.arp(PEER4, PEER4), Reason.NEIGHBOUR_ADDRESS),
    "answer from no address": (packets.arp("0.0.0.0", WEB4, 2), Reason.NEIGHBOUR_ADDRESS),
    "own address for another's MAC": (
        packets.arp(WEB4, PEER4, 2, mac=packets.OTHER_MAC), Reason.NEIGHBOUR_MAC),
    "probe for another's MAC": (
        packets.arp("0.0.0.0", WEB4, mac=packets.OTHER_MAC), Reason.NEIGHBOUR_MAC),
    "advertisement of another's address": (
        discovery(136, source=WEB6, target=PEER6), Reason.NEIGHBOUR_ADDRESS),
    "advertisement from another's address": (
        discovery(136, source=PEER6, target=WEB6), Reason.INVALID_SOURCE_IP),
    "advertisement of another's MAC": (
        discovery(136, source=WEB6, target=WEB6, options=packets.link_option(2, packets.OTHER_MAC)),
        Reason.NEIGHBOUR_MAC),
    "solicitation from another's MAC": (
        discovery(135, source=WEB6, target=PEER6, options=OTHER_LINK), Reason.NEIGHBOUR_MAC),
    "router's solicitation from another's MAC": (
        discovery(133, source="fe80::1", options=OWN_LINK + OTHER_LINK), Reason.NEIGHBOUR_MAC),
    "router's advertisement": (
        discovery(134, source="fe80::1", options=bytes(8)), Reason.ROUTER_ADVERTISEMENT),
    "option without length": (
        discovery(135, source=WEB6, target=PEER6, options=bytes(8)), Reason.INVALID_NEIGHBOUR),
    "option beyond the end": (
        discovery(135, source=WEB6, target=PEER6, options=b"\x0e\x02" + bytes(6)),
        Reason.INVALID_NEIGHBOUR),
    "option cut short": (
        discovery(135, source=WEB6, target=PEER6, options=OWN_LINK[:7]), Reason.TRUNCATED),
    "MAC of another length": (
        discovery(135, source=WEB6, target=PEER6, options=b"\x01\x02" + bytes(14)),
        Reason.INVALID_NEIGHBOUR),
    "more options than are read": (
        discovery(135, source=WEB6, target=PEER6, options=OWN_LINK * 9), Reason.INVALID_NEIGHBOUR),
}  # fmt: skip


@pytest.mark.parametrize("name", DISHONEST)
@pytest.mark.parametrize("mac", [WEB_ENDPOINT.mac, ""], ids=["known MAC", "unknown MAC"])
def test_a_pod_claims_only_its_own_addresses_for_the_mac_it_speaks_from(
    engine: KernelEngine, name: str, mac: str
) -> None:
    packet, reason = DISHONEST[name]
    endpoint = replace(WEB_ENDPOINT, mac=mac)
    assert engine.run(endpoint, Direction.EGRESS, packet).reason == reason


@pytest.mark.parametrize(
    "packet",
    [
        ip(WEB4, FAR4, TCP, packets.tcp(4000, 80)),
        ip(WEB6, FAR6, TCP, packets.tcp(4000, 80)),
        packets.arp(WEB4, PEER4, mac=packets.OTHER_MAC),
        discovery(135, source=WEB6, target=PEER6),
        packets.ethernet(bytes(46), 0x88CC),
    ],
    ids=["IPv4", "IPv6", "ARP", "neighbour discovery", "other"],
)
def test_a_pod_speaks_from_no_mac_but_its_own(engine: KernelEngine, packet: bytes) -> None:
    forged = packet[:6] + packets.OTHER_MAC + packet[12:]
    assert out(engine, forged).reason == Reason.INVALID_SOURCE_MAC
    assert into(engine, forged).reason != Reason.INVALID_SOURCE_MAC
    unknown = replace(WEB_ENDPOINT, mac="")
    told = engine.run(unknown, Direction.EGRESS, forged).reason
    assert told != Reason.INVALID_SOURCE_MAC, "what is not known is not checked"


def test_neighbour_discovery_from_afar_and_redirects_are_judged_like_any_icmp(
    engine: KernelEngine,
) -> None:
    far = discovery(135, source=FAR6, target=WEB6, hop_limit=254)
    assert into(engine, far).reason == Reason.POLICY_DENIED
    assert into(engine, discovery(137, source=FAR6, target=WEB6)).reason == Reason.POLICY_DENIED


# Flows ---------------------------------------------------------------------------------------


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


# Errors about flows --------------------------------------------------------------------------


def too_big(web: str, far: str, *, quoted: bytes, to: str | None = None) -> bytes:
    """A router's complaint that a packet does not fit."""
    if ":" in web:
        message = packets.icmp(2, data=packets.ipv6(web, far, TCP, quoted))
        return ip("2001:db8::ffff", to or web, ICMPV6, message)
    message = packets.icmp(3, 4, data=packets.ipv4(web, far, TCP, quoted))
    return ip("198.51.100.1", to or web, ICMP, message)


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
def test_path_mtu_discovery_works_for_a_flow_that_passes(
    engine: KernelEngine, web: str, far: str
) -> None:
    quoted = packets.tcp(4000, 80, ACK)[:8]
    assert into(engine, too_big(web, far, quoted=quoted)).reason == Reason.POLICY_DENIED
    assert out(engine, ip(web, far, TCP, packets.tcp(4000, 80))).allowed
    assert into(engine, too_big(web, far, quoted=quoted)).allowed


def test_an_error_about_another_flow_or_a_revoked_one_is_dropped(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).allowed
    other = packets.tcp(4001, 80, ACK)[:8]
    assert not into(engine, too_big(WEB4, FAR4, quoted=other)).allowed
    assert not into(engine, too_big(PEER4, FAR4, quoted=packets.tcp(4000, 80), to=WEB4)).allowed
    revoke(engine)
    quoted = packets.tcp(4000, 80, ACK)[:8]
    assert into(engine, too_big(WEB4, FAR4, quoted=quoted)).reason == Reason.POLICY_DENIED


def test_a_pods_own_error_about_what_it_received_passes(engine: KernelEngine) -> None:
    quoted = packets.ipv4(PEER4, WEB4, TCP, packets.tcp(5000, 8080))
    error = ip(WEB4, PEER4, ICMP, packets.icmp(3, 1, data=quoted))
    assert not out(engine, error).allowed
    assert into(engine, ip(PEER4, WEB4, TCP, packets.tcp(5000, 8080))).allowed
    assert out(engine, error).allowed
    elsewhere = ip(WEB4, FAR4, ICMP, packets.icmp(3, 1, data=quoted))
    assert not out(engine, elsewhere).allowed
