"""The baseline of the flows benchmark: libbpf calls back for each event, and each becomes objects.

In:   the event ring
Out:  a FlowRecord an event
Shell over libbpf's consumer.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, c_int, c_size_t, c_void_p
from typing import Final

from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, TcpFlag
from netpolicy.rules import Direction
from nodeagent.datapath import Datapath, abi, libbpf, packing

_CALLBACK: Final = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


class ObjectReader:
    """Reads the ring as libbpf means it to be read."""

    def __init__(self, datapath: Datapath) -> None:
        self._library = libbpf.library()
        self._library.ring_buffer__new.restype = c_void_p
        self._library.ring_buffer__new.argtypes = (c_int, _CALLBACK, c_void_p, c_void_p)
        self._library.ring_buffer__consume.argtypes = (c_void_p,)
        self._library.ring_buffer__free.argtypes = (c_void_p,)
        self._taken: list[bytes] = []
        self._callback = _CALLBACK(self._take)  # kept for as long as the ring: libbpf calls it
        events = datapath.events()
        self._ring = self._library.ring_buffer__new(events.fileno(), self._callback, None, None)
        events.close()

    def read(self) -> list[FlowRecord]:
        """All that is there."""
        self._taken.clear()
        self._library.ring_buffer__consume(self._ring)
        return [_record(data) for data in self._taken]

    def close(self) -> None:
        """Unmap the ring."""
        self._library.ring_buffer__free(self._ring)

    def _take(self, _context: int | None, data: int | None, size: int) -> int:
        self._taken.append(ctypes.string_at(data or 0, size))
        return 0


def _record(data: bytes) -> FlowRecord:
    event = abi.Event.from_buffer_copy(data)
    egress = event.direction == Direction.EGRESS
    return FlowRecord(
        time_ns=event.time_ns,
        node="bench",
        verdict=FlowVerdict.DROPPED if event.reason else FlowVerdict.FORWARDED,
        direction=Direction(event.direction),
        source=FlowEnd(
            identity=event.local_identity if egress else event.remote_identity,
            address=packing.unpack_address(bytes(event.source.bytes)),
            port=event.source_port,
        ),
        destination=FlowEnd(
            identity=event.remote_identity if egress else event.local_identity,
            address=packing.unpack_address(bytes(event.destination.bytes)),
            port=event.destination_port,
        ),
        protocol=event.protocol,
        tcp_flags=TcpFlag(event.tcp_flags),
        revision=event.revision,
        endpoint_id=event.endpoint_id,
    )
