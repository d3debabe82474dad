"""A second opinion on packets: what may pass an endpoint whose every rule is open, and why not.

In:   the bytes of a frame, the endpoint's addresses, the direction
Out:  the reason the datapath has to give; FORWARDED if it has to let the packet pass
Written from the RFCs, not from bpf/packet.h. Pure but for the first fragments it remembers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import Reason

_Address = IPv4Address | IPv6Address
_ETHERNET, _IPV4, _IPV6, _ARP = 14, 20, 40, 28
_EXTENSIONS: Final = frozenset({0, 43, 60})
_EXTENSIONS_AT_MOST: Final = 6
_FRAGMENT_HEADER: Final = 44
_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132
_HEADER_BYTES: Final = {_ICMP: 8, _TCP: 20, _UDP: 8, _ICMPV6: 8, _SCTP: 16}
_ERRORS: Final = {_ICMP: frozenset({3, 4, 11, 12}), _ICMPV6: frozenset({1, 2, 3, 4})}
_DISCOVERY: Final = range(133, 137)
_ROUTER_ADVERTISEMENT, _NEIGHBOUR_ADVERTISEMENT = 134, 136
_ROUTER_SOLICITATION: Final = 133
_OPTIONS_AT_MOST: Final = 8
_LINK_OPTIONS: Final = (1, 2)
_SOURCE_ROUTES: Final = (131, 137)
_ROUTING: Final = 43
_LONGEST: Final = 65_535


class Refused(Exception):
    """The packet must not pass, and why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.name)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fragment:
    """Where payload lies in its datagram. `whole` holds no other fragment."""

    offset: int
    more: bool
    datagram: tuple[object, ...]


@dataclass(slots=True)
class PacketReader:
    """Reads packets in the order the endpoint's programs get them."""

    addresses: tuple[str, ...]
    mac: bytes
    firsts: dict[tuple[object, ...], int] = field(default_factory=dict)

    def expected(self, frame: bytes, direction: Direction) -> Reason:
        """The reason the programs must give for a frame."""
        try:
            self._frame(frame, direction)
        except Refused as refused:
            return refused.reason
        return Reason.FORWARDED

    def _frame(self, frame: bytes, direction: Direction) -> None:
        (ethertype,) = struct.unpack_from("!H", frame, 12)
        content, sender = frame[_ETHERNET:], frame[6:12]
        if direction is Direction.EGRESS and sender != self.mac:
            raise Refused(Reason.INVALID_SOURCE_MAC)
        match ethertype:
            case 0x0800:
                self._ipv4(content, direction)
            case 0x86DD:
                self._ipv6(content, direction)
            case 0x0806:
                self._arp(content, direction, sender)
            case 0x8100 | 0x88A8:
                raise Refused(Reason.VLAN)
            case length if length < 0x600:
                raise Refused(Reason.UNSUPPORTED_L2)
            case _:
                raise Refused(Reason.UNSUPPORTED_L3)

    def _arp(self, content: bytes, direction: Direction, sender: bytes) -> None:
        _need(content, _ARP)
        *kinds, operation = struct.unpack_from("!HHBBH", content)
        if kinds != [1, 0x0800, 6, 4] or operation not in (1, 2):
            raise Refused(Reason.INVALID_NEIGHBOUR)
        if direction is Direction.INGRESS:
            return
        if content[8:14] != sender:
            raise Refused(Reason.NEIGHBOUR_MAC)
        claimed = ip_address(content[14:18])
        is_probe = int(claimed) == 0 and operation == 1
        if not is_probe and str(claimed) not in self.addresses:
            raise Refused(Reason.NEIGHBOUR_ADDRESS)

    def _ipv4(self, content: bytes, direction: Direction) -> None:
        _need(content, _IPV4)
        version, words = content[0] >> 4, content[0] & 15
        if version != 4 or words < 5:
            raise Refused(Reason.INVALID_PACKET)
        length, identification, placed, hops, protocol = struct.unpack_from("!2xHHHBB", content)
        _need(content, length)
        if length < words * 4:
            raise Refused(Reason.TRUNCATED)
        _check_options(content[_IPV4 : words * 4])
        if protocol not in (_TCP, _UDP, _SCTP, _ICMP):
            raise Refused(Reason.UNKNOWN_L4)
        source, destination = content[12:16], content[16:20]
        payload = content[words * 4 : length]
        fragment = _Fragment(
            offset=(placed & 0x1FFF) * 8,
            more=bool(placed & 0x2000),
            datagram=(direction, source, destination, protocol, identification),
        )
        self._payload(payload, protocol, ip_address(source), direction, hops, payload, fragment)

    def _ipv6(self, content: bytes, direction: Direction) -> None:
        _need(content, _IPV6)
        source, destination = IPv6Address(content[8:24]), IPv6Address(content[24:40])
        if content[0] >> 4 != 6:
            raise Refused(Reason.INVALID_PACKET)
        if source.ipv4_mapped or destination.ipv4_mapped:
            raise Refused(Reason.MAPPED_ADDRESS)
        length, following, hops = struct.unpack_from("!4xHBB", content)
        _need(content, _IPV6 + length)
        following, rest = _walk(following, content[_IPV6 : _IPV6 + length])
        fragment = None
        cut = rest
        if following == _FRAGMENT_HEADER:
            _need(rest, 8)
            following, placed, identification = struct.unpack_from("!BxHI", rest)
            cut = rest = rest[8:]
            datagram = (direction, source, destination, identification)
            fragment = _Fragment(offset=placed & 0xFFF8, more=bool(placed & 1), datagram=datagram)
            if fragment.offset == 0:
                if fragment.more:
                    _check_cut(cut, fragment)
                following, rest = _walk(following, rest)
                if following == _FRAGMENT_HEADER:
                    raise Refused(Reason.FRAGMENT)
        is_later = fragment is not None and fragment.offset > 0
        if not is_later and following not in (_TCP, _UDP, _SCTP, _ICMPV6):
            raise Refused(Reason.UNKNOWN_L4)
        self._payload(rest, following, source, direction, hops, cut, fragment)

    def _payload(
        self,
        payload: bytes,
        protocol: int,
        source: _Address,
        direction: Direction,
        hops: int,
        cut: bytes,
        fragment: _Fragment | None,
    ) -> None:
        """`cut`: the part of the datagram that a fragment carries."""
        is_part = fragment is not None and (fragment.more or fragment.offset > 0)
        if fragment and is_part:
            _check_cut(cut, fragment)
            if fragment.offset:
                self._own_source(source, direction)
                self._follow(fragment)
                return
        _check_transport(payload, protocol)
        if protocol == _ICMPV6 and payload[0] in _DISCOVERY and (hops, payload[1]) == (255, 0):
            if is_part:
                raise Refused(Reason.FRAGMENT)
            self._discovery(payload, source, direction)
            return
        if is_part and payload[0] in _ERRORS.get(protocol, ()):
            raise Refused(Reason.FRAGMENT)
        self._own_source(source, direction)
        if fragment and is_part:
            self.firsts[fragment.datagram] = len(cut)

    def _follow(self, fragment: _Fragment) -> None:
        if fragment.datagram not in self.firsts:
            raise Refused(Reason.NO_FIRST_FRAGMENT)
        if fragment.offset < self.firsts[fragment.datagram]:
            raise Refused(Reason.FRAGMENT_OVERLAP)

    def _discovery(self, message: bytes, source: _Address, direction: Direction) -> None:
        """The sender's MAC is the endpoint's own: else the frame did not get so far."""
        options = {_ROUTER_SOLICITATION: 8, _ROUTER_ADVERTISEMENT: 16}.get(message[0], 24)
        _need(message, options)
        if direction is Direction.EGRESS:
            if int(source) and not source.is_link_local:
                self._own_source(source, direction)
            if message[0] == _ROUTER_ADVERTISEMENT:
                raise Refused(Reason.ROUTER_ADVERTISEMENT)
        self._options(message[options:], direction)
        if direction is Direction.EGRESS and message[0] == _NEIGHBOUR_ADVERTISEMENT:
            claimed = IPv6Address(message[8:24])
            if not claimed.is_link_local and str(claimed) not in self.addresses:
                raise Refused(Reason.NEIGHBOUR_ADDRESS)

    def _options(self, rest: bytes, direction: Direction) -> None:
        for _ in range(_OPTIONS_AT_MOST):
            if not rest:
                return
            _need(rest, 8)
            kind, words = rest[0], rest[1]
            if words == 0 or (kind in _LINK_OPTIONS and words != 1):
                raise Refused(Reason.INVALID_NEIGHBOUR)
            if kind in _LINK_OPTIONS and direction is Direction.EGRESS and rest[2:8] != self.mac:
                raise Refused(Reason.NEIGHBOUR_MAC)
            if len(rest) < words * 8:
                raise Refused(Reason.INVALID_NEIGHBOUR)
            rest = rest[words * 8 :]
        if rest:
            raise Refused(Reason.INVALID_NEIGHBOUR)

    def _own_source(self, source: _Address, direction: Direction) -> None:
        if direction is Direction.EGRESS and str(source) not in self.addresses:
            raise Refused(Reason.INVALID_SOURCE_IP)


def _need(content: bytes, size: int) -> None:
    if len(content) < size:
        raise Refused(Reason.TRUNCATED)


def _walk(following: int, rest: bytes) -> tuple[int, bytes]:
    """Past extension headers: what follows, and from where on."""
    for _ in range(_EXTENSIONS_AT_MOST):
        if following not in _EXTENSIONS:
            break
        _need(rest, 4)
        if following == _ROUTING and rest[3]:
            raise Refused(Reason.SOURCE_ROUTE)
        following, rest = rest[0], rest[(rest[1] + 1) * 8 :]
    if following in _EXTENSIONS:
        raise Refused(Reason.INVALID_IPV6_EXTENSION)
    return following, rest


def _check_options(options: bytes) -> None:
    """IPv4's: one byte each, or a length at the second byte."""
    while options and options[0] != 0:
        if options[0] in _SOURCE_ROUTES:
            raise Refused(Reason.SOURCE_ROUTE)
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or options[1] < 2 or options[1] > len(options):
            raise Refused(Reason.INVALID_PACKET)
        options = options[options[1] :]


def _check_cut(cut: bytes, fragment: _Fragment) -> None:
    if not cut:
        raise Refused(Reason.TRUNCATED)
    if (fragment.more and len(cut) % 8) or fragment.offset + len(cut) > _LONGEST:
        raise Refused(Reason.FRAGMENT)


def _check_transport(payload: bytes, protocol: int) -> None:
    _need(payload, _HEADER_BYTES[protocol])
    if protocol == _TCP:
        header_bytes = (payload[12] >> 4) * 4
        if header_bytes < _HEADER_BYTES[_TCP]:
            raise Refused(Reason.TRUNCATED)
        _need(payload, header_bytes)
