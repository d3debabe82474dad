"""Addresses, prefixes and MACs as the programs hold them, and back.

In:   text, as plans and inventories write it
Out:  bytes of map keys and values
Pure. Every IPv4 address is an IPv4-mapped IPv6 one in the kernel's maps.
"""

from __future__ import annotations

import sys
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from nodeagent.datapath.abi import Mac

IPV4_PREFIX_BITS: Final = 96
"""How many bits longer an IPv4 prefix is in its IPv4-mapped form."""

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"


def pack_address(text: str) -> bytes:
    """An address in its 16-byte form."""
    address = ip_address(text)
    return address.packed if isinstance(address, IPv6Address) else _IPV4_MAPPED + address.packed


def unpack_address(data: bytes) -> str:
    """The canonical text of a 16-byte form."""
    return str(ip_address(data[12:] if data.startswith(_IPV4_MAPPED) else data))


def pack_mac(text: str) -> Mac:
    """A MAC written as six pairs of hex digits; empty: not known."""
    return Mac.from_buffer_copy(bytes.fromhex(text.replace(":", "")) or bytes(6))


def unpack_mac(mac: Mac) -> str:
    """The text of a MAC; empty if it is not known."""
    return bytes(mac.bytes).hex(":") if any(mac.bytes) else ""


def pack_prefix(text: str) -> bytes:
    """A CIDR as the key of the prefix trie. Raises ValueError if host bits are set."""
    network = ip_network(text)
    bits = network.prefixlen + (IPV4_PREFIX_BITS if network.version == 4 else 0)
    return bits.to_bytes(4, sys.byteorder) + pack_address(str(network.network_address))


def unpack_prefix(data: bytes) -> str:
    """The canonical CIDR of a key of the prefix trie."""
    bits = int.from_bytes(data[:4], sys.byteorder)
    if data[4:].startswith(_IPV4_MAPPED) and bits >= IPV4_PREFIX_BITS:
        bits -= IPV4_PREFIX_BITS
    return f"{unpack_address(data[4:])}/{bits}"
