"""Read what the kernel remembers and counts: conntrack entries and counters.

In:   the pinned maps
Out:  ConntrackEntry, Counters
Shell over those maps; clearing conntrack is its only write.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import abi, abi_numbers, libbpf, packing
from nodeagent.datapath.libbpf import Map
from nodeagent.plan.generation import Verdict

_WORD: Final = Struct("=I")
_COUNTER: Final = Struct("=QQ")
_POSSIBLE_CPUS: Final = Path("/sys/devices/system/cpu/possible")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConntrackEntry:
    """A flow as one endpoint saw it. `direction` is that of the packet that opened it.

    `reason` 0: it passes. For ICMP echo `local_port` is the identifier. Half open: its opener has
    not spoken again after an answer. Direct: its opening went past the node's IP stack. Times are the
    kernel's monotonic clock.
    """

    endpoint_id: int
    remote: str
    remote_port: int
    local_port: int
    protocol: int
    direction: Direction
    verdict: Verdict
    reason: int
    revision: int
    cookie: int
    is_half_open: bool
    is_one_way: bool
    is_direct: bool
    has_reply: bool
    last_seen_ns: int
    forward_packets: int
    forward_bytes: int
    reply_packets: int
    reply_bytes: int
    forward_tcp_flags: int
    reply_tcp_flags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """Packets since the maps were made. `drops`: (reason, direction) → packets."""

    drops: Mapping[tuple[int, int], int]
    forwarded: int
    lost_events: int
    untold_refusals: int
    """Refused packets that lost events stood for."""


def read_conntrack(conntrack: Map, half_open: Map) -> Iterator[ConntrackEntry]:
    """Every flow the kernel remembers; one that is answered meanwhile may come twice."""
    for flows in (conntrack, half_open):
        for key, value in libbpf.entries_of(flows):
            found = abi.ConntrackKey.from_buffer_copy(key)
            yield _entry(found, value, is_half_open=flows is half_open)


def clear_conntrack(conntrack: Map, half_open: Map) -> None:
    """Forget every flow. Those first that may yet become those of the other map."""
    for flows in (half_open, conntrack):
        for key, _ in list(libbpf.entries_of(flows)):
            libbpf.delete(flows, key)


def read_counters(counters: Map) -> Counters:
    """Sum up all processors."""
    cpus = possible_cpus()
    packets = [_packets(counters, index, cpus) for index in range(abi_numbers.COUNTERS)]
    return Counters(
        drops={
            (reason, direction): packets[reason * 2 + direction]
            for reason in range(1, abi_numbers.REASONS)
            for direction in Direction
            if packets[reason * 2 + direction]
        },
        forwarded=sum(packets[direction] for direction in Direction),
        lost_events=packets[abi_numbers.COUNTER_LOST_EVENTS],
        untold_refusals=packets[abi_numbers.COUNTER_UNTOLD_REFUSALS],
    )


def read_lost_events(counters: Map) -> int:
    """The one counter of them."""
    return _packets(counters, abi_numbers.COUNTER_LOST_EVENTS, possible_cpus())


@functools.cache
def possible_cpus() -> int:
    """How many values a per-CPU map has for each key."""
    try:
        last = _POSSIBLE_CPUS.read_text().strip().replace(",", "-").split("-")[-1]
    except OSError:
        return os.cpu_count() or 1
    return int(last) + 1


def _packets(counters: Map, index: int, cpus: int) -> int:
    data = libbpf.lookup(counters, _WORD.pack(index), value_bytes=_COUNTER.size * cpus)
    return sum(packets for packets, _ in _COUNTER.iter_unpack(data)) if data else 0


def _entry(key: abi.ConntrackKey, value: bytes, *, is_half_open: bool) -> ConntrackEntry:
    found = abi.ConntrackEntry.from_buffer_copy(value)
    return ConntrackEntry(
        endpoint_id=key.endpoint_id,
        remote=packing.unpack_address(bytes(key.remote.bytes)),
        remote_port=key.remote_port,
        local_port=key.local_port,
        protocol=key.protocol,
        direction=Direction(found.direction),
        verdict=Verdict(found.judgement.verdict),
        reason=found.judgement.reason,
        revision=found.judgement.revision,
        cookie=found.cookie,
        is_half_open=is_half_open,
        is_one_way=bool(found.flags & abi_numbers.ConntrackFlag.ONE_WAY),
        is_direct=bool(found.flags & abi_numbers.ConntrackFlag.DIRECT),
        has_reply=bool(found.flags & abi_numbers.ConntrackFlag.REPLIED),
        last_seen_ns=found.last_seen_ns,
        forward_packets=found.forward_packets,
        forward_bytes=found.forward_bytes,
        reply_packets=found.reply_packets,
        reply_bytes=found.reply_bytes,
        forward_tcp_flags=found.forward_tcp_flags,
        reply_tcp_flags=found.reply_tcp_flags,
    )
