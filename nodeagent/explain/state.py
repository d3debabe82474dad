"""What one explanation is read from: the kernel's maps at one moment, as plain values.

In:   made by `nodeagent.explain.read`, or by a test
Out:  looked up by `nodeagent.explain.lookups`
Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodeagent.datapath import ConntrackEntry, KernelEndpoint
from nodeagent.plan.generation import AddressPlan, EndpointTable, PolicyEntry, PolicyKey


class SlotKind(StrEnum):
    """Which of the loaded generations is asked."""

    ACTIVE = "active"
    CANDIDATE = "candidate"
    PREVIEW = "preview"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotMaps:
    """The maps of one generation, as the kernel holds them."""

    policy: Mapping[PolicyKey, PolicyEntry]
    class_of: Mapping[int, int]
    port_class_of: Mapping[int, array[int]]
    endpoint_tables: Mapping[int, EndpointTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """All that a packet's verdict is looked up in. `slot` None: the control word names none.

    `maps` None: the slot holds nothing. `attached`: interfaces with both filters; None if that was
    not asked. `now_ns` is the kernel's monotonic clock. `proxy_interface`: the device that leads to the
    proxy; 0: there is none.
    """

    kind: SlotKind
    revision: int
    slot: int | None
    maps: SlotMaps | None
    generation_digest: str
    endpoints: Mapping[int, KernelEndpoint]
    addresses: AddressPlan
    flows: tuple[ConntrackEntry, ...]
    attached: frozenset[int] | None
    now_ns: int
    proxy_interface: int = 0
