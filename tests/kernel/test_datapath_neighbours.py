"""ARP and neighbour discovery: a pod may ask, and speak for itself only.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Reason
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine
from tests.support.kernel_fixtures import (
    WEB_ENDPOINT,
)
from tests.support.kernel_packets import ip
from tests.support.kernel_web import (
    FAR4,
    FAR6,
    ICMPV6,
    PEER4,
    PEER6,
    TCP,
    WEB4,
    WEB6,
    into,
    out,
)

pytestmark = pytest.mark.kernel


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
