"""Put the programs of encryption on tunnels and uplinks, and take them off.

In:   interface indices, program descriptors
Out:  tc filters on clsact, of another name than those on pods' interfaces
Shell over netlink, in the network namespace of the process.

Holds always:
1. A filter is replaced in one step: an uplink is never without its guard while that is renewed.
2. Only filters of this name and handle are ever removed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from pyroute2 import IPRoute

from netpolicy.rules import Direction
from nodeagent.datapath.attach import add_clsact, remove_clsact, remove_filter, with_netlink
from nodeagent.datapath.filters import FILTER_PRIORITY, PARENTS, Filter, list_filters

GUARD_NAME: Final = "tidegate-wire"
GUARD_HANDLE: Final = 0x7469


def attach_guard(ifindex: int, hook: Direction, program: int) -> None:
    """Put a program on an interface. `hook` as of a pod's: EGRESS is where packets come in."""

    def work(netlink: IPRoute) -> None:
        add_clsact(netlink, ifindex)
        netlink.tc(
            "replace-filter",
            "bpf",
            ifindex,
            handle=GUARD_HANDLE,
            prio=FILTER_PRIORITY,
            fd=program,
            name=GUARD_NAME,
            parent=PARENTS[hook],
            direct_action=True,
        )

    with_netlink(f"guarding interface {ifindex}", work)


def guards(ifindexes: Iterable[int]) -> tuple[Filter, ...]:
    """The programs of encryption on these interfaces."""
    return tuple(found for found in list_filters(ifindexes) if is_guard(found))


def remove_guards() -> None:
    """Take them off every interface of this network namespace, and clsact where it is empty then."""
    for ifindex in [index for index, _ in socket.if_nameindex()]:
        standing = [found for found in list_filters([ifindex]) if found.kind != "tcx"]
        ours = [found for found in standing if is_guard(found)]
        if ours:
            _remove(ifindex, ours, is_alone=len(ours) == len(standing))


def is_guard(found: Filter) -> bool:
    """True for a filter that `attach_guard` made."""
    return found.kind == "bpf" and (found.name, found.handle) == (GUARD_NAME, GUARD_HANDLE)


def _remove(ifindex: int, ours: list[Filter], *, is_alone: bool) -> None:
    def work(netlink: IPRoute) -> None:
        for found in ours:
            remove_filter(netlink, found)
        if is_alone:
            remove_clsact(netlink, ifindex)

    with_netlink(f"unguarding interface {ifindex}", work)
