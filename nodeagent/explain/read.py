"""Read the pinned maps for one explanation.

In:   an open Datapath, which slot, whether to look at interfaces
Out:  KernelState, of one moment
Shell over the pins. Reads only; the agent need not run.

Holds always:
1. What is returned was in force together: should a new generation or other addresses come into force
   meanwhile, all is read again.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import Control, Datapath, DatapathError
from nodeagent.explain.state import KernelState, SlotKind, SlotMaps

ATTEMPTS: Final = 5


def read_state(datapath: Datapath, kind: SlotKind, *, with_interfaces: bool = True) -> KernelState:
    """The maps as they are. Raises DatapathError if they cannot be read, or never stand still."""
    attached = _guarded(datapath) if with_interfaces else None
    for _ in range(ATTEMPTS):
        control = datapath.control()
        state = _read(datapath, control, kind, attached)
        if datapath.control() == control:
            return state
    raise DatapathError("the maps changed at each attempt to read them")


def _read(
    datapath: Datapath, control: Control, kind: SlotKind, attached: frozenset[int] | None
) -> KernelState:
    slot = {
        SlotKind.ACTIVE: control.active,
        SlotKind.CANDIDATE: control.candidate,
        SlotKind.PREVIEW: control.preview,
    }[kind]
    label = None if slot is None else datapath.slot_label(slot)
    return KernelState(
        kind=kind,
        revision=control.revision,
        slot=slot,
        maps=None if slot is None or label is None else _slot_maps(datapath, slot),
        generation_digest=label.generation_digest if label else "",
        endpoints=datapath.read_endpoints(),
        addresses=datapath.read_addresses(),
        flows=tuple(datapath.read_conntrack()),
        attached=attached,
        now_ns=time.monotonic_ns(),
        proxy_interface=datapath.proxy.interface(),
    )


def _slot_maps(datapath: Datapath, slot: int) -> SlotMaps:
    policy, class_of, port_class_of, tables = datapath.read_generation(slot)
    return SlotMaps(
        policy=policy, class_of=class_of, port_class_of=port_class_of, endpoint_tables=tables
    )


def _guarded(datapath: Datapath) -> frozenset[int]:
    """Interfaces of this network namespace that bear a filter of ours in each direction."""
    filters = Counter(found.ifindex for found in datapath.attached())
    return frozenset(ifindex for ifindex, count in filters.items() if count == len(Direction))
