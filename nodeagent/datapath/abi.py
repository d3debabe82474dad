"""bpf/abi.h in ctypes: the bytes that programs and agent share.

In:   bytes of maps and events
Out:  structures with the fields of the C ones
Pure. A test compiles abi.h and compares every size, offset and number.
"""

from __future__ import annotations

import sys
from ctypes import Structure, c_uint8, c_uint16, c_uint32, c_uint64, sizeof
from enum import IntEnum, IntFlag
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from netpolicy.evidence import Cause
from nodeagent.datapath_options import MOST_UNJUDGED_ETHERTYPES

ABI_VERSION: Final = 12
MARK_MASK: Final = 0xFF00
"""The bits of a packet's mark that say what the node does with it."""
MARK_FROM_POD: Final = 0x0800
MARK_DECRYPTED: Final = 0x0D00
MARK_ENCRYPT: Final = 0x0E00
MARK_REDIRECTED: Final = 0x0200
MARK_PROXY_TO_CLIENT: Final = 0x0900
MARK_PROXY_TO_SERVER: Final = 0x0A00
MARK_PROXY_TO_WORLD: Final = 0x0B00
MARK_PROXY_TO_OPENER: Final = 0x0C00
MARK_PORT_SHIFT: Final = 16
REDIRECT_ANEW: Final = 0x01
REDIRECT_BACK: Final = 0x02
SLOTS: Final = 8
NO_SLOT: Final = 0xFF
SHADOWS: Final = 2
ENDPOINT_ADDRESSES: Final = 8
INTERFACE_GROUPS: Final = 1024
INTERFACES_PER_GROUP: Final = 8
PORTS_PER_ELEMENT: Final = 4
ELEMENTS_PER_PROTOCOL: Final = 16384
PORT_PROTOCOLS: Final = 5
PORT_CLASS_ELEMENTS: Final = PORT_PROTOCOLS * ELEMENTS_PER_PROTOCOL
REASONS: Final = 256
COUNTER_LOST_EVENTS: Final = REASONS * 2
COUNTER_UNTOLD_REFUSALS: Final = REASONS * 2 + 1
COUNTERS: Final = REASONS * 2 + 2
REFUSAL_INTERVAL_NS: Final = 1_000_000_000

ADDRESS_BYTES: Final = 16
IPV4_PREFIX_BITS: Final = 96
"""How many bits longer an IPv4 prefix is in its IPv4-mapped form."""

_IPV4_MAPPED: Final = bytes(10) + b"\xff\xff"


class EntryKind(IntEnum):
    """What a policy entry leaves open (`enum tg_entry_kind`)."""

    EXACT = 0
    ANY_PORT = 1
    ANY_PEER = 2
    ANYTHING = 3


class Reason(IntEnum):
    """Why a packet was dropped (`enum tg_reason`); 0: it was not."""

    FORWARDED = 0
    INVALID_SOURCE_MAC = 130
    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET = 134
    TRUNCATED = 135
    UNSUPPORTED_L3 = 139
    UNKNOWN_L4 = 142
    CONNTRACK_INSERT = 155
    INVALID_IPV6_EXTENSION = 156
    UNSUPPORTED_L2 = 166
    INVALID_IDENTITY = 171
    NO_FIRST_FRAGMENT = 175
    NO_PROXY = 180
    POLICY_DENY = 181
    VLAN = 182
    UNENCRYPTED = 195
    NOT_READY = 202
    NO_ENDPOINT = 203
    NO_GENERATION = 220
    NO_TABLE = 221
    NEIGHBOUR_ADDRESS = 222
    NEIGHBOUR_MAC = 223
    ROUTER_ADVERTISEMENT = 224
    INVALID_NEIGHBOUR = 225
    FRAGMENT = 226
    FRAGMENT_OVERLAP = 227
    MAPPED_ADDRESS = 228
    NO_ROOM = 229
    SOURCE_ROUTE = 230


class CauseNumber(IntEnum):
    """How a shadow judges otherwise (`enum tg_cause`); 0: it does not."""

    NONE = 0
    WOULD_DENY = 1
    WOULD_ALLOW = 2
    WOULD_REDIRECT = 3
    WOULD_NOT_REDIRECT = 4


class EncryptionFlag(IntFlag):
    """`enum tg_encryption_flag`."""

    ON = 1
    STRICT = 2


class Reply(IntEnum):
    """Whether a packet travels against its flow's direction (`enum tg_reply`)."""

    UNKNOWN = 0
    NO = 1
    YES = 2


class ConntrackFlag(IntFlag):
    """`enum tg_conntrack_flag`."""

    ONE_WAY = 1
    REPLIED = 2
    ESTABLISHED = 4
    CUT = 8


class EncryptionWord(Structure):
    """`struct tg_encryption`."""

    _fields_ = (("flags", c_uint32),)


class Proxy(Structure):
    """`struct tg_proxy`."""

    _fields_ = (("interface_index", c_uint32),)


class Address(Structure):
    """`struct tg_address`: IPv6, or IPv4 as ::ffff:a.b.c.d, in network byte order."""

    _fields_ = (("bytes", c_uint8 * ADDRESS_BYTES),)


class Control(Structure):
    """`struct tg_control`."""

    _fields_ = (
        ("revision", c_uint32),
        ("active", c_uint8),
        ("candidate", c_uint8),
        ("preview", c_uint8),
        ("previous", c_uint8),
    )


class Interface(Structure):
    """`struct tg_interface`."""

    _fields_ = (("index", c_uint32), ("slot", c_uint32))


class InterfaceGroup(Structure):
    """`struct tg_interface_group`."""

    _fields_ = (("held", Interface * INTERFACES_PER_GROUP),)


class Mac(Structure):
    """`struct tg_mac`: all zero if it is not known."""

    _fields_ = (("bytes", c_uint8 * 6),)


class Settings(Structure):
    """`struct tg_settings`."""

    _fields_ = (
        ("lifetime_tcp_ns", c_uint64),
        ("lifetime_tcp_opening_ns", c_uint64),
        ("lifetime_tcp_closed_ns", c_uint64),
        ("lifetime_datagram_ns", c_uint64),
        ("lifetime_fragments_ns", c_uint64),
        ("unjudged_ethertypes", c_uint16 * MOST_UNJUDGED_ETHERTYPES),
    )


class Endpoint(Structure):
    """`struct tg_endpoint`."""

    _fields_ = (
        ("id", c_uint32),
        ("identity", c_uint32),
        ("address_count", c_uint32),
        ("mac", Mac),
        ("padding", c_uint8 * 2),
        ("addresses", Address * ENDPOINT_ADDRESSES),
    )


class Prefix(Structure):
    """`struct tg_prefix`."""

    _fields_ = (("prefix_bits", c_uint32), ("address", Address))


class PolicyKey(Structure):
    """`struct tg_policy_key`."""

    _fields_ = (
        ("table", c_uint32),
        ("peer_class", c_uint32),
        ("direction", c_uint8),
        ("protocol", c_uint8),
        ("port_class", c_uint16),
    )


class PolicyEntry(Structure):
    """`struct tg_policy_entry`."""

    _fields_ = (
        ("verdict", c_uint8),
        ("padding", c_uint8),
        ("proxy_port", c_uint16),
        ("cookie", c_uint32),
    )


class EndpointTable(Structure):
    """`struct tg_endpoint_table`."""

    _fields_ = (
        ("table", c_uint32),
        ("flags", c_uint8),
        ("kinds", c_uint8 * 2),
        ("padding", c_uint8),
        ("ingress_cookie", c_uint32),
        ("egress_cookie", c_uint32),
    )


class PortClasses(Structure):
    """`struct tg_port_classes`."""

    _fields_ = (("classes", c_uint16 * PORTS_PER_ELEMENT),)


class GenerationLabel(Structure):
    """`struct tg_generation_label`."""

    _fields_ = (
        ("generation", c_uint8 * 32),
        ("bundle", c_uint8 * 32),
        ("sequence", c_uint64),
        ("commit", c_uint8 * 20),
        ("padding", c_uint8 * 4),
    )


class ConntrackKey(Structure):
    """`struct tg_conntrack_key`."""

    _fields_ = (
        ("endpoint_id", c_uint32),
        ("remote", Address),
        ("remote_port", c_uint16),
        ("local_port", c_uint16),
        ("protocol", c_uint8),
        ("opener", c_uint8),
        ("padding", c_uint8 * 2),
    )


class Judgement(Structure):
    """`struct tg_judgement`."""

    _fields_ = (
        ("revision", c_uint32),
        ("verdict", c_uint8),
        ("reason", c_uint8),
        ("proxy_port", c_uint16),
    )


class ConntrackEntry(Structure):
    """`struct tg_conntrack_entry`."""

    _fields_ = (
        ("judgement", Judgement),
        ("last_seen_ns", c_uint64),
        ("last_seen_tick", c_uint32),
        ("forward_awaits", c_uint16),
        ("reply_awaits", c_uint16),
        ("forward_packets", c_uint64),
        ("forward_bytes", c_uint64),
        ("reply_packets", c_uint64),
        ("reply_bytes", c_uint64),
        ("cookie", c_uint32),
        ("direction", c_uint8),
        ("flags", c_uint8),
        ("forward_tcp_flags", c_uint8),
        ("reply_tcp_flags", c_uint8),
    )


class FragmentKey(Structure):
    """`struct tg_fragment_key`."""

    _fields_ = (
        ("source", Address),
        ("destination", Address),
        ("endpoint_id", c_uint32),
        ("identification", c_uint32),
        ("protocol", c_uint8),
        ("direction", c_uint8),
        ("padding", c_uint8 * 2),
    )


class FirstFragment(Structure):
    """`struct tg_first_fragment`."""

    _fields_ = (
        ("seen_ns", c_uint64),
        ("payload_bytes", c_uint32),
        ("source_port", c_uint16),
        ("destination_port", c_uint16),
        ("kind", c_uint8),
        ("protocol", c_uint8),
        ("icmp_type", c_uint8),
        ("icmp_code", c_uint8),
        ("streams", c_uint8),
        ("echo_reply", c_uint8),
        ("padding", c_uint8 * 2),
    )


class DifferenceKey(Structure):
    """`struct tg_difference_key`."""

    _fields_ = (
        ("source_identity", c_uint32),
        ("destination_identity", c_uint32),
        ("cookie", c_uint32),
        ("port", c_uint16),
        ("protocol", c_uint8),
        ("direction", c_uint8),
        ("shadow", c_uint8),
        ("slot", c_uint8),
        ("cause", c_uint8),
        ("reason", c_uint8),
    )


class Difference(Structure):
    """`struct tg_difference`."""

    _fields_ = (("count", c_uint64), ("last_seen_ns", c_uint64))


class CoverageKey(Structure):
    """`struct tg_coverage_key`."""

    _fields_ = (
        ("endpoint_id", c_uint32),
        ("shadow", c_uint8),
        ("slot", c_uint8),
        ("padding", c_uint8 * 2),
    )


class Counter(Structure):
    """`struct tg_counter`."""

    _fields_ = (("packets", c_uint64), ("bytes", c_uint64))


class Event(Structure):
    """`struct tg_event`."""

    _fields_ = (
        ("time_ns", c_uint64),
        ("packets", c_uint64),
        ("bytes", c_uint64),
        ("reply_packets", c_uint64),
        ("reply_bytes", c_uint64),
        ("source", Address),
        ("destination", Address),
        ("endpoint_id", c_uint32),
        ("interface_index", c_uint32),
        ("local_identity", c_uint32),
        ("remote_identity", c_uint32),
        ("cookie", c_uint32),
        ("revision", c_uint32),
        ("source_port", c_uint16),
        ("destination_port", c_uint16),
        ("protocol", c_uint8),
        ("icmp_type", c_uint8),
        ("icmp_code", c_uint8),
        ("tcp_flags", c_uint8),
        ("direction", c_uint8),
        ("verdict", c_uint8),
        ("reason", c_uint8),
        ("occasion", c_uint8),
        ("reply", c_uint8),
        ("shadow", c_uint8),
        ("cause", c_uint8),
        ("encrypted", c_uint8),
    )


class RefusalKey(Structure):
    """`struct tg_refusal_key`."""

    _fields_ = (
        ("source", Address),
        ("destination", Address),
        ("endpoint_id", c_uint32),
        ("revision", c_uint32),
        ("source_port", c_uint16),
        ("destination_port", c_uint16),
        ("protocol", c_uint8),
        ("icmp_type", c_uint8),
        ("icmp_code", c_uint8),
        ("direction", c_uint8),
        ("reason", c_uint8),
        ("shadow", c_uint8),
        ("padding", c_uint8 * 2),
    )


class Refusal(Structure):
    """`struct tg_refusal`."""

    _fields_ = (
        ("told_ns", c_uint64),
        ("untold_packets", c_uint64),
        ("untold_bytes", c_uint64),
        ("event", Event),
    )


def cause_of(number: int) -> Cause:
    """The cause that a non-zero number stands for."""
    return Cause[CauseNumber(number).name]


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


def layout_digest(*structures: type[Structure]) -> str:
    """Names where each field lies: bytes of one layout may be read by another with the same digest.

    A field whose meaning changes is given another name.
    """
    told = "".join(_layout_text(structure) for structure in structures)
    return sha256(told.encode()).hexdigest()[:8]


def _layout_text(structure: type[Structure]) -> str:
    lines = [f"{structure.__name__} {sizeof(structure)}\n"]
    for name, kind, *_ in structure._fields_:
        field = getattr(structure, name)
        lines.append(f"{name} {kind.__name__} {field.offset} {field.size}\n")
        if issubclass(kind, Structure):
            lines.append(_layout_text(kind))
    return "".join(lines)


FLOW_LAYOUT: Final = layout_digest(ConntrackKey, ConntrackEntry, FragmentKey, FirstFragment)
