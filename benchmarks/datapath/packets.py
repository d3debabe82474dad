"""Packets for BPF_PROG_TEST_RUN, and the context that says on which interface they came. Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

SYN: Final = 0x02
ACK: Final = 0x10

_CONTEXT_BYTES: Final = 192  # struct __sk_buff
_IFINDEX_AT: Final = 40


def context(ifindex: int) -> bytes:
    """A struct __sk_buff in which only the interface is set."""
    data = bytearray(_CONTEXT_BYTES)
    struct.pack_into("=I", data, _IFINDEX_AT, ifindex)
    return bytes(data)


def tcp4(source: str, source_port: int, destination: str, port: int, flags: int) -> bytes:
    """An Ethernet frame with an IPv4 TCP segment; checksums are left to be offloaded."""
    ethernet = bytes(12) + b"\x08\x00"
    tcp = struct.pack("!HHIIBBHHH", source_port, port, 1, 1, 5 << 4, flags, 64000, 0, 0)
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0, addresses)
    return ethernet + ip + tcp
