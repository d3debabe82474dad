"""What the programs count of shadows: where one judges otherwise, and how much it was asked.

In:   the pinned maps
Out:  KernelDifference values, flows per endpoint, differences that had no room
Shell over those maps; forgetting a shadow's counts is its only write.

Holds always:
1. What is read of a shadow was counted under the slot it has now: counts made by packets that still
   judged by the control word before are never taken for its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from netpolicy.evidence import Cause, Shadow
from netpolicy.rules import Direction
from nodeagent.datapath import abi, abi_numbers, libbpf
from nodeagent.datapath.flow_table import possible_cpus
from nodeagent.datapath.libbpf import Map

_WORD: Final = Struct("=I")
_COUNT: Final = Struct("=Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDifference:
    """Flows that a shadow judges otherwise, as one endpoint saw them.

    `reason` and `cookie` are the shadow's (reason 0: it lets them pass). `count`: a flow that is enforced
    as allowed counts once a revision, a refused packet each time. Times are the kernel's monotonic clock.
    """

    source_identity: int
    destination_identity: int
    protocol: int
    port: int
    direction: Direction
    cause: Cause
    reason: int
    cookie: int
    count: int
    last_seen_ns: int


@dataclass(frozen=True, slots=True)
class ShadowMaps:
    """The maps that shadows count in."""

    differences: Map
    coverage: Map
    lost: Map


def read_differences(maps: ShadowMaps, shadow: Shadow, slot: int) -> tuple[KernelDifference, ...]:
    """What a shadow judges otherwise."""
    return tuple(
        _difference(key, abi.Difference.from_buffer_copy(value))
        for key, value in _counted(maps, shadow)
        if key.slot == slot
    )


def read_coverage(maps: ShadowMaps, shadow: Shadow, slot: int) -> dict[int, int]:
    """Endpoint id → flows that were judged under a shadow too."""
    return {
        key.endpoint_id: _sum(value) for key, value in _covered(maps, shadow) if key.slot == slot
    }


def read_lost(maps: ShadowMaps, shadow: Shadow, slot: int) -> int:
    """Judgements that differed, and that `differences` had no room for."""
    data = libbpf.lookup(maps.lost, _lost_index(shadow, slot), value_bytes=_per_cpu_bytes())
    return _sum(data or b"")


def forget(maps: ShadowMaps, shadow: Shadow) -> None:
    """Empty everything that was counted of a shadow, under any slot."""
    libbpf.delete_batch(maps.differences, [bytes(key) for key, _ in _counted(maps, shadow)])
    libbpf.delete_batch(maps.coverage, [bytes(key) for key, _ in _covered(maps, shadow)])
    for slot in range(abi_numbers.SLOTS):
        libbpf.update(maps.lost, _lost_index(shadow, slot), bytes(_per_cpu_bytes()))


def _counted(maps: ShadowMaps, shadow: Shadow) -> Iterator[tuple[abi.DifferenceKey, bytes]]:
    for data, value in libbpf.entries_of(maps.differences):
        key = abi.DifferenceKey.from_buffer_copy(data)
        if key.shadow == shadow:
            yield key, value


def _covered(maps: ShadowMaps, shadow: Shadow) -> Iterator[tuple[abi.CoverageKey, bytes]]:
    for data, value in libbpf.entries_of(maps.coverage, value_bytes=_per_cpu_bytes()):
        key = abi.CoverageKey.from_buffer_copy(data)
        if key.shadow == shadow:
            yield key, value


def _difference(key: abi.DifferenceKey, counted: abi.Difference) -> KernelDifference:
    return KernelDifference(
        source_identity=key.source_identity,
        destination_identity=key.destination_identity,
        protocol=key.protocol,
        port=key.port,
        direction=Direction(key.direction),
        cause=abi_numbers.cause_of(key.cause),
        reason=key.reason,
        cookie=key.cookie,
        count=counted.count,
        last_seen_ns=counted.last_seen_ns,
    )


def _lost_index(shadow: Shadow, slot: int) -> bytes:
    return _WORD.pack((shadow - 1) * abi_numbers.SLOTS + slot)


def _per_cpu_bytes() -> int:
    return _COUNT.size * possible_cpus()


def _sum(per_cpu: bytes) -> int:
    return sum(count for (count,) in _COUNT.iter_unpack(per_cpu))
