"""Packets that are nearly right: honest ones of every kind, changed at random.

In:   a seed
Out:  as many packets as are asked for; the same seed gives the same ones
Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv6Address
from random import Random
from typing import Final

from tests.support import kernel_packets as packets
from tests.support.kernel_packets import ACK, SYN, fragment, icmp, ip, sctp, tcp, udp

WEB4, WEB6, FAR4, FAR6 = "10.0.0.1", "fd00::1", "192.0.2.1", "2001:db8::1"
_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132
_HOP, _ROUTING, _FRAGMENT, _OPTIONS = 0, 43, 44, 60
_ETHERTYPES: Final = (0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x8847, 46, 0x05FF, 0x0600)
_BYTES: Final = (
    0,
    1,
    2,
    4,
    5,
    6,
    17,
    43,
    44,
    58,
    60,
    0x45,
    0x46,
    0x60,
    128,
    131,
    132,
    134,
    136,
    255,
)
_SHORTEST: Final = 15
_SHORTEST_OF: Final = {0x0800: 34, 0x86DD: 54}
"""The kernel runs no program on a frame without content, nor on one without a whole IP header."""
_MUTABLE_FROM, _MUTABLE_HEAD = 10, 96


def mutated_packets(
    seed: int, count: int, honest: Sequence[bytes] | None = None
) -> Iterator[bytes]:
    """That many packets, most of them broken; made from these honest ones, or from all kinds."""
    random = Random(seed)
    honest = _honest_packets() if honest is None else honest
    while count:
        packet = bytearray(random.choice(honest))
        for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
            random.choice(_MUTATIONS)(packet, random)
        if len(packet) >= _SHORTEST_OF.get(int.from_bytes(packet[12:14], "big"), _SHORTEST):
            count -= 1
            yield bytes(packet)


def _honest_packets() -> list[bytes]:
    return [packet for web, far in ((WEB4, FAR4), (WEB6, FAR6)) for packet in _of(web, far)] + [
        packets.arp(WEB4, "10.0.0.2"),
        packets.arp("0.0.0.0", WEB4),
        packets.arp(WEB4, WEB4, 2),
        ip(WEB4, FAR4, _TCP, tcp(4000, 80), options=b"\x01\x94\x04\x00\x00\x00\x00\x00"),
        ip(WEB6, FAR6, _HOP, packets.extension(_OPTIONS) + packets.extension(_TCP, 1) + tcp(1, 80)),
        ip(WEB6, FAR6, _ROUTING, packets.source_routed(following=_UDP, left=0) + udp(1, 53)),
        ip(WEB6, FAR6, _FRAGMENT, packets.fragment_header(_UDP) + udp(1, 53)),
        fragment(WEB6, FAR6, _OPTIONS, packets.extension(_UDP) + udp(1, 53), more=True),
        *(_discovery(kind) for kind in (133, 135, 136)),
        ip(WEB6, "ff02::1", _ICMPV6, icmp(134, data=bytes(8)), hop_limit=255),
        ip(f"::ffff:{WEB4}", FAR6, _UDP, udp(4000, 53)),
    ]


def _of(web: str, far: str) -> list[bytes]:
    icmp_number, request, error = (_ICMPV6, 128, 1) if ":" in web else (_ICMP, 8, 3)
    return [
        *(ip(web, far, _TCP, tcp(4000, 80, flags) + bytes(12)) for flags in (SYN, ACK)),
        ip(web, far, _UDP, udp(4000, 53, bytes(8))),
        ip(web, far, _SCTP, sctp(4000, 100)),
        ip(web, far, icmp_number, icmp(request, identifier=7)),
        ip(web, far, icmp_number, icmp(error, data=bytes(64))),
        *(
            fragment(web, far, protocol, payload, more=True, identification=number)
            for number, (protocol, payload) in enumerate(
                [(_UDP, udp(4000, 53, bytes(24))), (_TCP, tcp(4000, 80) + bytes(4))]
            )
        ),
        *(
            fragment(web, far, protocol, bytes(32), offset=offset, identification=number)
            for number, protocol in enumerate([_UDP, _TCP])
            for offset in (8, 32, 1024)
        ),
    ]


def _discovery(kind: int) -> bytes:
    option = packets.link_option(2 if kind == 136 else 1)
    target = b"" if kind == 133 else IPv6Address(WEB6).packed
    message = icmp(kind, data=target + option)
    return ip(WEB6, "ff02::1", _ICMPV6, message, hop_limit=255)


def _set_byte(packet: bytearray, random: Random) -> None:
    at = random.randrange(_MUTABLE_FROM, min(len(packet), _MUTABLE_HEAD))
    packet[at] = random.choice(_BYTES)


def _flip_bit(packet: bytearray, random: Random) -> None:
    at = random.randrange(_MUTABLE_FROM, min(len(packet), _MUTABLE_HEAD))
    packet[at] ^= 1 << random.randrange(8)


def _cut_off(packet: bytearray, random: Random) -> None:
    del packet[random.randrange(_SHORTEST, len(packet) + 1) :]


def _pad(packet: bytearray, random: Random) -> None:
    packet += bytes(random.choice((1, 7, 8, 40, 200)))


def _lie_about_length(packet: bytearray, random: Random) -> None:
    """In IPv4's place for it, and in IPv6's."""
    at = random.choice((16, 18))
    if len(packet) >= at + 2:
        struct.pack_into("!H", packet, at, random.choice((0, 8, 20, 28, 40, 60, 65_535)))


def _change_ethertype(packet: bytearray, random: Random) -> None:
    struct.pack_into("!H", packet, 12, random.choice(_ETHERTYPES))


def _repeat_part(packet: bytearray, random: Random) -> None:
    """As a header that stands there twice, or one too many."""
    start = random.randrange(14, len(packet))
    packet[start:start] = packet[start : start + random.choice((2, 8, 20))]


def _drop_part(packet: bytearray, random: Random) -> None:
    start = random.randrange(14, len(packet))
    del packet[start : start + random.choice((1, 2, 8))]
    packet += bytes(max(0, _SHORTEST - len(packet)))


def _scatter(packet: bytearray, random: Random) -> None:
    """In IPv4's place for flags and offset, and in that of an IPv6 fragment header."""
    at = random.choice((20, 56))
    if len(packet) >= at + 2:
        struct.pack_into("!H", packet, at, random.choice((0, 1, 8, 9, 0x2000, 0x2001, 0x1FFF)))


_MUTATIONS: Final[tuple[Callable[[bytearray, Random], None], ...]] = (
    _set_byte,
    _set_byte,
    _flip_bit,
    _flip_bit,
    _cut_off,
    _pad,
    _lie_about_length,
    _change_ethertype,
    _repeat_part,
    _drop_part,
    _scatter,
)
