"""The structures of bpf/abi.h in ctypes: the bytes that programs and agent share.

In:   bytes of maps and events
Out:  structures with the fields of the C ones
Pure. A test compiles abi.h and compares every size and offset.
"""

from __future__ import annotations

from ctypes import Structure, c_uint8, c_uint16, c_uint32, c_uint64
from typing import Final

from nodeagent.datapath.abi_numbers import (
    ENDPOINT_ADDRESSES,
    EVENT_RECORDS,
    INTERFACES_PER_GROUP,
    PORTS_PER_ELEMENT,
)
from nodeagent.datapath_options import MOST_UNJUDGED_ETHERTYPES

ADDRESS_BYTES: Final = 16


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
        ("direct_delivery", c_uint64),
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


class LocalEnd(Structure):
    """`struct tg_local_end`."""

    _fields_ = (("interface_index", c_uint32), ("flags", c_uint32))


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


class EventRecord(Structure):
    """`struct tg_event_record`."""

    _fields_ = (("number", c_uint64), ("event", Event))


class EventRing(Structure):
    """`struct tg_event_ring`."""

    _fields_ = (
        ("begun", c_uint64),
        ("padding_begun", c_uint64 * 7),
        ("taken", c_uint64),
        ("padding_taken", c_uint64 * 7),
        ("is_awaited", c_uint64),
        ("padding_awaited", c_uint64 * 7),
        ("records", EventRecord * EVENT_RECORDS),
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
