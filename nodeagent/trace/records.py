"""Decode what the kernel's program reports of one drop.

In:   the bytes of `struct drop` (RECORD is its layout, `program` its C)
Out:  Drop
Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from netpolicy.rules import WITH_PORTS, Protocol

RECORD: Final = struct.Struct("=QQIIIIHHHBB16s16s16s")
"""at_ns, location, reason, length, ifindex, netns, ethertype, source_port, destination_port,
protocol, tcp_flags, source, destination, device: no padding, host byte order but for addresses."""

IP_ETHERTYPES: Final = (0x0800, 0x86DD)

_FLAG_NAMES: Final = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDrop:
    """A drop in the kernel's numbers: monotonic time, code address, reason number."""

    at_ns: int
    location: int
    reason: int
    length: int
    ifindex: int
    netns: int
    ethertype: int
    source_port: int
    destination_port: int
    protocol: int
    tcp_flags: int
    source: str
    destination: str
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A drop in words. `time` is seconds since the epoch; `place` the kernel function and offset.

    For ICMP `destination_port` is the message type. Addresses are empty if the packet is not IP.
    """

    time: float
    reason: str
    place: str
    protocol: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    tcp_flags: str
    length: int
    device: str
    ifindex: int
    netns: int


def decode_record(data: bytes) -> RawDrop:
    """Decode one record; raises struct.error if it is shorter than RECORD."""
    fields = RECORD.unpack_from(data)
    *numbers, source, destination, device = fields
    (at_ns, location, reason, length, ifindex, netns, ethertype) = numbers[:7]
    is_ip = ethertype in IP_ETHERTYPES
    return RawDrop(
        at_ns=at_ns,
        location=location,
        reason=reason,
        length=length,
        ifindex=ifindex,
        netns=netns,
        ethertype=ethertype,
        source_port=numbers[7],
        destination_port=numbers[8],
        protocol=numbers[9],
        tcp_flags=numbers[10],
        source=_address(source) if is_ip else "",
        destination=_address(destination) if is_ip else "",
        device=device.split(b"\0", 1)[0].decode("utf-8", "replace"),
    )


def describe(raw: RawDrop, *, reason: str, place: str, wall_minus_monotonic_ns: int) -> Drop:
    """Put a drop into words: the names are the kernel's, looked up by the caller."""
    return Drop(
        time=(raw.at_ns + wall_minus_monotonic_ns) / 1e9,
        reason=reason,
        place=place,
        protocol=_protocol_word(raw),
        source=raw.source,
        source_port=raw.source_port,
        destination=raw.destination,
        destination_port=raw.destination_port,
        tcp_flags=",".join(name for bit, name in _FLAG_NAMES if raw.tcp_flags & bit),
        length=raw.length,
        device=raw.device,
        ifindex=raw.ifindex,
        netns=raw.netns,
    )


def _address(data: bytes) -> str:
    address = IPv6Address(data)
    return str(address.ipv4_mapped or address)


def _protocol_word(raw: RawDrop) -> str:
    if not raw.source:
        return f"ethertype-0x{raw.ethertype:04x}"
    known = {int(protocol): protocol.word for protocol in Protocol}
    return known.get(raw.protocol, f"protocol-{raw.protocol}")


def render(drop: Drop, *, clock: str) -> str:
    """One line for people; `clock` is the drop's time of day, written by the caller."""
    details = [drop.tcp_flags] if drop.tcp_flags else []
    details += [f"dev {drop.device}"] if drop.device else []
    details += [f"netns {drop.netns}"] if drop.netns else []
    return (
        f"{clock}  {drop.reason:<20} {drop.protocol:<7} {ends_text(drop)}"
        f"  at {drop.place}  [{', '.join([*details, f'{drop.length} bytes'])}]"
    )


def ends_text(drop: Drop) -> str:
    """From → to, with ports where there are some."""
    if not drop.source:
        return "-"
    if drop.protocol in {protocol.word for protocol in WITH_PORTS}:
        source = with_port(drop.source, drop.source_port)
        return f"{source} → {with_port(drop.destination, drop.destination_port)}"
    return f"{drop.source} → {drop.destination} type {drop.destination_port}"


def with_port(address: str, port: int) -> str:
    """`10.0.0.1:80`, `[fd00::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
