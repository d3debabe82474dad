"""The ring buffer: what the programs tell of verdicts and drops.

In:   the pinned ring buffer
Out:  FlowEvent values
Shell over libbpf's consumer. One reader a ring: what is read is gone.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Final

from netpolicy.evidence import Cause, Shadow
from netpolicy.rules import Direction
from nodeagent.datapath import abi, libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map
from nodeagent.plan.generation import Verdict

READ_LIMIT: Final = 4096
"""Events a call: a flood of them must not hold up the agent's loop."""

_EVENT_BYTES: Final = ctypes.sizeof(abi.Event)
_ENOUGH: Final = -libbpf.EAGAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvent:
    """A verdict or a drop, as the kernel tells it.

    `direction` is the packet's, seen from the endpoint. `reason` 0: it passes. `cookie` belongs to the
    generation that `revision` enforced. `is_reply` is False where the kernel could not know.
    Of an AUDIT, verdict, reason and cookie are the `shadow`'s; `cause` says how it judges otherwise.
    """

    ktime_ns: int
    endpoint_id: int
    ifindex: int
    source: str
    destination: str
    source_port: int
    destination_port: int
    protocol: int
    icmp_type: int
    icmp_code: int
    tcp_flags: int
    direction: Direction
    verdict: Verdict
    reason: int
    occasion: abi.Occasion
    local_identity: int
    remote_identity: int
    cookie: int
    revision: int
    is_reply: bool
    packet_bytes: int
    shadow: Shadow | None
    cause: Cause | None


class EventReader:
    """Reads the ring. `fileno()` becomes readable when there is something."""

    def __init__(self, events: Map) -> None:
        self._samples: list[bytes] = []
        # Kept for as long as the ring: libbpf calls it.
        self._callback = libbpf.SAMPLE_CALLBACK(self._take)
        self._ring = libbpf.library().ring_buffer__new(events.fd, self._callback, None, None)
        if not self._ring:
            raise DatapathError("mapping the event ring", errno=ctypes.get_errno())

    def fileno(self) -> int:
        """A descriptor for poll or an event loop."""
        return int(libbpf.library().ring_buffer__epoll_fd(self._ring))

    def read(self) -> list[FlowEvent]:
        """What is there, oldest first, up to a limit; empty if nothing is."""
        if not self._ring:
            return []
        self._samples.clear()
        result = libbpf.library().ring_buffer__consume(self._ring)
        if result != _ENOUGH:
            libbpf.check(result, "reading the event ring")
        return [decode_event(sample) for sample in self._samples]

    def close(self) -> None:
        """Unmap the ring."""
        if self._ring:
            libbpf.library().ring_buffer__free(self._ring)
            self._ring = None

    def _take(self, _context: int | None, data: int | None, size: int) -> int:
        self._samples.append(ctypes.string_at(data or 0, min(size, _EVENT_BYTES)))
        return _ENOUGH if len(self._samples) >= READ_LIMIT else 0


def decode_event(data: bytes) -> FlowEvent:
    """One `struct tg_event`."""
    event = abi.Event.from_buffer_copy(data)
    return FlowEvent(
        ktime_ns=event.time_ns,
        endpoint_id=event.endpoint_id,
        ifindex=event.interface_index,
        source=abi.unpack_address(bytes(event.source.bytes)),
        destination=abi.unpack_address(bytes(event.destination.bytes)),
        source_port=event.source_port,
        destination_port=event.destination_port,
        protocol=event.protocol,
        icmp_type=event.icmp_type,
        icmp_code=event.icmp_code,
        tcp_flags=event.tcp_flags,
        direction=Direction(event.direction),
        verdict=Verdict(event.verdict),
        reason=event.reason,
        occasion=abi.Occasion(event.occasion),
        local_identity=event.local_identity,
        remote_identity=event.remote_identity,
        cookie=event.cookie,
        revision=event.revision,
        is_reply=event.reply == abi.Reply.YES,
        packet_bytes=event.packet_bytes,
        shadow=Shadow(event.shadow) if event.shadow else None,
        cause=abi.cause_of(event.cause) if event.cause else None,
    )
