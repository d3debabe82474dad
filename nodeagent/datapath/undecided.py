"""Whether a pod's packets to a service travel encrypted: its program cannot say, they are translated later.

In:   packed events, the kernel's table of translated connections, the places of pods
Out:  the same events, where it was undecided with yes or no
Shell over a netfilter socket of the network namespace it is used in, and the map of places.

Holds always:
1. Where nothing is undecided, which is one search through a column, nothing is asked.
2. Of one read at most `MOST_ASKED` flows are asked for; of the others, and of those that nothing is known
   of, it is no: what answers them says by itself how it came.
"""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import ip_address
from typing import Final

from nodeagent.datapath import abi, encryption_maps, packing
from nodeagent.datapath.abi_numbers import Encrypted
from nodeagent.datapath.event_ring import HEADER_BYTES, RECORD_BYTES
from nodeagent.datapath.libbpf import Map
from nodeagent.netlink import Netfilter, attribute, attributes
from nodeagent.plan.places import Place

MOST_ASKED: Final = 64
PATIENCE_SECONDS: Final = 0.001
"""The event may be read before the packet is translated."""
_ENCRYPTED_AT: Final = HEADER_BYTES + abi.Event.encrypted.offset
_GET_CONNECTION: Final = 0x0101
_FAMILY_ONLY: Final = struct.Struct("=BBH")
_NESTED: Final = 0x8000
_TUPLE_OPENER: Final = 1
_TUPLE_ANSWER: Final = 2
_TUPLE_ADDRESSES: Final = 1
_TUPLE_PROTOCOL: Final = 2
_PROTOCOL_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ENDS: Final = {4: (socket.AF_INET, (1, 2)), 6: (socket.AF_INET6, (3, 4))}
"""IP version → family, and the kinds of a tuple's source and destination."""


class Undecided:
    """Decides. One caller at a time."""

    def __init__(self, pod_places: Map) -> None:
        self._places = pod_places

    def decide(self, records: bytes) -> bytes:
        """The records, with nothing undecided."""
        waiting = _undecided(records)
        if not waiting:
            return records
        found = bytearray(records)
        for row in waiting:
            found[row * RECORD_BYTES + _ENCRYPTED_AT] = Encrypted.NO
        with Netfilter() as netlink:
            unknown = self._ask(netlink, found, waiting[:MOST_ASKED])
            if unknown:
                time.sleep(PATIENCE_SECONDS)
                self._ask(netlink, found, unknown)
        return bytes(found)

    def _ask(self, netlink: Netfilter, records: bytearray, rows: list[int]) -> list[int]:
        """Set what is known; return the rows of which nothing is."""
        unknown = []
        for row in rows:
            start = row * RECORD_BYTES
            backend = _behind(netlink, abi.Event.from_buffer(records, start + HEADER_BYTES))
            if backend is None:
                unknown.append(row)
            elif encryption_maps.place_of(self._places, backend) is Place.TUNNEL:
                records[start + _ENCRYPTED_AT] = Encrypted.YES
        return unknown


def _undecided(records: bytes) -> list[int]:
    column = records[_ENCRYPTED_AT::RECORD_BYTES]
    if Encrypted.UNDECIDED not in column:
        return []
    return [row for row, value in enumerate(column) if value == Encrypted.UNDECIDED]


def _behind(netlink: Netfilter, event: abi.Event) -> str | None:
    """The address that answers for the destination; None: no such connection is known."""
    source, destination = (
        ip_address(packing.unpack_address(bytes(end))) for end in (event.source, event.destination)
    )
    family, (from_, to) = _ENDS[source.version]
    addresses = attribute(from_, source.packed) + attribute(to, destination.packed)
    ports = (
        attribute(_PROTOCOL_NUMBER, bytes([event.protocol]))
        + attribute(_SOURCE_PORT, event.source_port.to_bytes(2))
        + attribute(_DESTINATION_PORT, event.destination_port.to_bytes(2))
    )
    asked = _nested(_TUPLE_ADDRESSES, addresses) + _nested(_TUPLE_PROTOCOL, ports)
    body = _FAMILY_ONLY.pack(family, 0, 0) + _nested(_TUPLE_OPENER, asked)
    try:
        answer = netlink.ask(_GET_CONNECTION, body)
    except OSError:  # nobody tracks it, or this kernel tells of none
        return None
    connection = dict(attributes(answer[_FAMILY_ONLY.size :]))
    answering = dict(attributes(connection.get(_TUPLE_ANSWER, b"")))
    found = dict(attributes(answering.get(_TUPLE_ADDRESSES, b""))).get(from_)
    return str(ip_address(found)) if found else None


def _nested(kind: int, content: bytes) -> bytes:
    return attribute(kind | _NESTED, content)
