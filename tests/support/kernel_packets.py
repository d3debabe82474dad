"""Build the bytes of packets, honest or not.

Everything that the programs read can be set; checksums are left out, as nothing here checks them.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from netpolicy.rules import Protocol

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
OTHER_MAC, OWN_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
_MACS: Final = OTHER_MAC + OWN_MAC
MORE_FRAGMENTS: Final = 0x2000
FRAGMENT: Final = 44
IPV4, IPV6, ARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def ethernet(payload: bytes, ethertype: int) -> bytes:
    """A frame."""
    return _MACS + struct.pack("!H", ethertype) + payload


def ip(source: str, destination: str, protocol: int, payload: bytes, **fields: object) -> bytes:
    """A frame with an IPv4 or IPv6 packet, by the source's family."""
    if isinstance(_address(source), IPv4Address):
        return ethernet(ipv4(source, destination, protocol, payload, **fields), IPV4)  # type: ignore[arg-type]
    return ethernet(ipv6(source, destination, protocol, payload, **fields), IPV6)  # type: ignore[arg-type]


def ipv4(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    options: bytes = b"",
    fragment: int = 0,
    identification: int = 1,
    total_length: int | None = None,
    hop_limit: int = 64,
) -> bytes:
    """An IPv4 packet; `fragment` is the raw field of flags and offset in units of 8 bytes."""
    header_words = 5 + len(options) // 4
    length = header_words * 4 + len(payload) if total_length is None else total_length
    head = struct.pack(
        "!BBHHHBBH",
        0x40 | header_words,
        0,
        length,
        identification,
        fragment,
        hop_limit,
        protocol,
        0,
    )
    ends = _address(source).packed + _address(destination).packed
    return head + ends + options + payload


def ipv6(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    payload_length: int | None = None,
    hop_limit: int = 64,
) -> bytes:
    """An IPv6 packet; extension headers are part of the payload."""
    length = len(payload) if payload_length is None else payload_length
    head = struct.pack("!IHBB", 6 << 28, length, protocol, hop_limit)
    return head + _address(source).packed + _address(destination).packed + payload


def extension(following: int, words: int = 0) -> bytes:
    """An IPv6 extension header of 8 bytes and some more words of 8."""
    return bytes([following, words]) + bytes(6 + 8 * words)


def fragment_header(
    following: int, *, offset: int = 0, more: bool = False, identification: int = 1
) -> bytes:
    """An IPv6 fragment header; `offset` in bytes."""
    return struct.pack("!BBHI", following, 0, offset | more, identification)


def fragment(
    source: str,
    destination: str,
    protocol: int,
    payload: bytes,
    *,
    offset: int = 0,
    more: bool = False,
    identification: int = 1,
) -> bytes:
    """A frame with a fragment of either family; `offset` in bytes."""
    if isinstance(_address(source), IPv4Address):
        field = offset // 8 | (MORE_FRAGMENTS if more else 0)
        packet = ipv4(
            source, destination, protocol, payload, fragment=field, identification=identification
        )
        return ethernet(packet, IPV4)
    head = fragment_header(protocol, offset=offset, more=more, identification=identification)
    return ethernet(ipv6(source, destination, FRAGMENT, head + payload), IPV6)


def tcp(
    source_port: int,
    destination_port: int,
    flags: int = SYN,
    *,
    sequence: int = 1,
    acknowledged: int = 1,
) -> bytes:
    """A TCP segment without data."""
    numbers = (sequence % 2**32, acknowledged % 2**32)
    ports = (source_port, destination_port)
    return struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 1024, 0, 0)


def udp(source_port: int, destination_port: int, data: bytes = b"") -> bytes:
    """A UDP datagram."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data


def sctp(source_port: int, destination_port: int, chunk: int = 1) -> bytes:
    """An SCTP packet whose first chunk is INIT, or another."""
    return struct.pack("!HHIIBBH", source_port, destination_port, 0, 0, chunk, 0, 4)


def icmp(kind: int, code: int = 0, *, identifier: int = 0, data: bytes = bytes(24)) -> bytes:
    """A message of either ICMP."""
    return struct.pack("!BBHHH", kind, code, 0, identifier, 0) + data


def arp(sender: str, target: str, operation: int = 1, *, mac: bytes = OWN_MAC) -> bytes:
    """A frame with an ARP message; `mac` is the one that it names for its sender."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    ends = mac + _address(sender).packed + bytes(6) + _address(target).packed
    return ethernet(head + ends, ARP)


def link_option(kind: int, mac: bytes = OWN_MAC) -> bytes:
    """A neighbour discovery option: a MAC, of the source (1) or of the target (2)."""
    return bytes([kind, 1]) + mac


def source_routed(extension_type: int = 0, *, following: int, left: int) -> bytes:
    """An IPv6 routing header with one address, and that many of its segments left."""
    return bytes([following, 2, extension_type, left]) + bytes(4) + _address("fd00::99").packed


def opening(
    source: str, destination: str, protocol: Protocol, port: int, *, source_port: int
) -> bytes:
    """The first packet of a flow. For the two ICMPs `port` is the type, `source_port` the identifier."""
    payload = {
        Protocol.TCP: lambda: tcp(source_port, port),
        Protocol.UDP: lambda: udp(source_port, port),
        Protocol.SCTP: lambda: sctp(source_port, port),
        Protocol.ICMP: lambda: icmp(port, identifier=source_port),
        Protocol.ICMPV6: lambda: icmp(port, identifier=source_port),
    }[protocol]()
    return ip(source, destination, protocol, payload)
