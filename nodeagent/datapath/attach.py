"""Put the programs on interfaces, and take them off: at tcx, or on clsact where the kernel has none.

In:   interface indices, program descriptors, whose programs they are
Out:  programs attached, first in a packet's way
Shell over tcx and netlink, in the network namespace of the process.

Holds always:
1. Whatever stands there before (older programs, filters of an older kernel or agent, others' programs in
   front), no packet meets a moment without a program of ours. One may meet two of them, for that moment.
2. Only programs of the given owner are ever removed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from netpolicy.rules import Direction
from nodeagent.datapath import clsact, tcx
from nodeagent.datapath.filters import PODS, Filter, Owner, list_filters


def attach(ifindex: int, programs: Mapping[Direction, int], owner: Owner = PODS) -> bool:
    """Put programs on an interface, in place of older ones, before whatever stands there.

    False if all of them stood there, first, already.
    """
    if not tcx.is_there(ifindex):
        return clsact.put_first(ifindex, programs, owner)
    # A program may stand at a hook only once: where it must move, a filter judges in the meantime.
    moving = {way: fd for way, fd in programs.items() if tcx.stands_behind(ifindex, way, fd)}
    if moving:
        clsact.put_first(ifindex, moving, owner)
    changes = [tcx.put_first(ifindex, way, fd, owner) for way, fd in programs.items()]
    clsact.take_off(ifindex, owner)
    return any(changes)


def detach(ifindex: int, owner: Owner = PODS) -> None:
    """Take an owner's programs off an interface: it is open. Fine if they are gone."""
    tcx.take_off(ifindex, owner)
    clsact.take_off(ifindex, owner)


def attached(owner: Owner = PODS, ifindexes: Iterable[int] | None = None) -> tuple[Filter, ...]:
    """An owner's programs on these interfaces; None: on all of this network namespace."""
    indices = [index for index, _ in socket.if_nameindex()] if ifindexes is None else ifindexes
    return tuple(found for found in list_filters(indices) if found.owner is owner)
