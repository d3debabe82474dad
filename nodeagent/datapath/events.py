"""What the programs tell of verdicts and drops.

In:   the pinned ring
Out:  packed records, their columns, or FlowEvent values
Shell over the mapped ring; decoding is pure.

Reading copies bytes; decoding is done for many records at a time, and only when somebody asks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import Occasion
from netpolicy.rules import Direction
from nodeagent.datapath import abi, abi_numbers, packing
from nodeagent.datapath.event_ring import HEADER_BYTES, RECORD_BYTES, MappedRing
from nodeagent.datapath.libbpf import Map
from nodeagent.plan.generation import Verdict

READ_LIMIT: Final = 4096
"""Events a read: a flood of them must not hold up the agent's loop."""

EVENT_BYTES: Final = ctypes.sizeof(abi.Event)
_NUMBERS: Final[dict[int, Literal["H", "I", "Q"]]] = {2: "H", 4: "I", 8: "Q"}
_KEPT_TEXTS: Final = 1 << 16


class EventColumns(NamedTuple):
    """The fields of `struct tg_event`, a column each; addresses as text."""

    time_ns: Sequence[int]
    packets: Sequence[int]
    bytes: Sequence[int]
    reply_packets: Sequence[int]
    reply_bytes: Sequence[int]
    source: Sequence[str]
    destination: Sequence[str]
    endpoint_id: Sequence[int]
    interface_index: Sequence[int]
    local_identity: Sequence[int]
    remote_identity: Sequence[int]
    cookie: Sequence[int]
    revision: Sequence[int]
    source_port: Sequence[int]
    destination_port: Sequence[int]
    protocol: Sequence[int]
    icmp_type: Sequence[int]
    icmp_code: Sequence[int]
    tcp_flags: Sequence[int]
    direction: Sequence[int]
    verdict: Sequence[int]
    reason: Sequence[int]
    occasion: Sequence[int]
    reply: Sequence[int]
    shadow: Sequence[int]
    cause: Sequence[int]
    encrypted: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvent:
    """A verdict or a drop, as the kernel tells it.

    `direction` is the packet's, seen from the endpoint. `reason` 0: it passes. `cookie` belongs to the
    generation that `revision` enforced. `is_reply` is False where the kernel could not know.
    `encrypted`: the packet goes into a tunnel to another node, or came out of one.
    It stands for `packets`: of a closed flow all that passed, and `reply_packets` its answers.
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
    occasion: Occasion
    local_identity: int
    remote_identity: int
    cookie: int
    revision: int
    is_reply: bool
    packets: int
    bytes: int
    reply_packets: int
    reply_bytes: int
    shadow: Shadow | None
    cause: Cause | None
    encrypted: bool


class EventDecoder:
    """Turns records into columns, and remembers the text of addresses it has met."""

    def __init__(self) -> None:
        self._texts = _AddressTexts()

    def columns(self, records: bytes) -> EventColumns:
        """Every record of a read."""
        return EventColumns._make(self._column(records, name) for name in EventColumns._fields)

    def _column(self, records: bytes, name: str) -> Sequence[Any]:
        field = getattr(abi.Event, name)
        at = HEADER_BYTES + field.offset
        match field.size:
            case 1:
                return records[at::RECORD_BYTES]
            case abi.ADDRESS_BYTES:
                starts = range(at, len(records), RECORD_BYTES)
                texts = self._texts
                return [texts[records[i : i + abi.ADDRESS_BYTES]] for i in starts]
            case size:
                words = memoryview(records).cast(_NUMBERS[size])
                return words[at // size :: RECORD_BYTES // size].tolist()


class EventReader:
    """Reads the ring. `fileno()` becomes readable once something comes after a reading that found nothing."""

    def __init__(self, events: Map, bell: Map, decide: Callable[[bytes], bytes]) -> None:
        """`decide`: fills in what the programs left undecided."""
        self._ring = MappedRing(events, bell)
        self._decide = decide
        self._decoder = EventDecoder()

    @property
    def room(self) -> int:
        """How many events the ring holds."""
        return self._ring.room

    def fileno(self) -> int:
        """A descriptor for poll or an event loop."""
        return self._ring.fd

    def read_records(self) -> bytes:
        """What is there, packed, oldest first, up to a limit; empty if nothing is."""
        return self._decide(self._ring.take(READ_LIMIT))

    def columns(self, records: bytes) -> EventColumns:
        """Decode what was read."""
        return self._decoder.columns(records)

    def read(self) -> list[FlowEvent]:
        """The same, as values."""
        return list(flow_events(self.columns(self.read_records())))

    def close(self) -> None:
        """Unmap the ring."""
        self._ring.close()


def flow_events(columns: EventColumns) -> Iterator[FlowEvent]:
    """Each row as a value."""
    for i in range(len(columns.time_ns)):
        yield FlowEvent(
            ktime_ns=columns.time_ns[i],
            endpoint_id=columns.endpoint_id[i],
            ifindex=columns.interface_index[i],
            source=columns.source[i],
            destination=columns.destination[i],
            source_port=columns.source_port[i],
            destination_port=columns.destination_port[i],
            protocol=columns.protocol[i],
            icmp_type=columns.icmp_type[i],
            icmp_code=columns.icmp_code[i],
            tcp_flags=columns.tcp_flags[i],
            direction=Direction(columns.direction[i]),
            verdict=Verdict(columns.verdict[i]),
            reason=columns.reason[i],
            occasion=Occasion(columns.occasion[i]),
            local_identity=columns.local_identity[i],
            remote_identity=columns.remote_identity[i],
            cookie=columns.cookie[i],
            revision=columns.revision[i],
            is_reply=columns.reply[i] == abi_numbers.Reply.YES,
            packets=columns.packets[i],
            bytes=columns.bytes[i],
            reply_packets=columns.reply_packets[i],
            reply_bytes=columns.reply_bytes[i],
            shadow=Shadow(columns.shadow[i]) if columns.shadow[i] else None,
            cause=abi_numbers.cause_of(columns.cause[i]) if columns.cause[i] else None,
            encrypted=bool(columns.encrypted[i]),
        )


class _AddressTexts(dict[bytes, str]):
    """Packed address → its text. Bounded: a flood of forged addresses only makes it start anew."""

    def __missing__(self, packed: bytes) -> str:
        if len(self) >= _KEPT_TEXTS:
            self.clear()
        text = self[packed] = packing.unpack_address(packed)
        return text
