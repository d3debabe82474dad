"""Packets that cannot be judged: each is dropped, for a reason of its own.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Reason
from nodeagent.plan.generation import TableFlag
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, KernelSide
from tests.support.kernel_fixtures import (
    ADDRESSES,
    WEB_ENDPOINT,
    small_generation,
)
from tests.support.kernel_packets import ip
from tests.support.kernel_web import (
    FAR4,
    FAR6,
    ICMP,
    ICMPV6,
    PEER4,
    PEER6,
    TCP,
    UDP,
    WEB4,
    WEB6,
    out,
)

pytestmark = pytest.mark.kernel


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
