"""Put the programs on interfaces, and take them off.

In:   interface indices, program descriptors
Out:  tc filters on clsact
Shell over netlink, in the network namespace of the process.

Holds always:
1. Replacing a program, or putting it first again, leaves no moment without one.
2. Only our own filters (by handle and name) are ever removed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from errno import EEXIST, EINVAL, ENODEV, ENOENT
from typing import TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netpolicy.rules import Direction
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.filters import (
    FILTER_HANDLES,
    FILTER_NAME,
    FILTER_PRIORITY,
    PARENTS,
    Filter,
    list_filters,
)

Result = TypeVar("Result")


def attach(ifindex: int, programs: dict[Direction, int]) -> None:
    """Put both programs on an interface, in place of older ones, before whatever stands there.

    Among filters of one priority the kernel puts a new one first: so ours is added anew under its other
    handle if another stands before it, and only then taken from its old place.
    """
    standing = [found for found in list_filters([ifindex]) if found.kind != "tcx"]

    def work(netlink: IPRoute) -> None:
        add_clsact(netlink, ifindex)
        for direction, fd in programs.items():
            there = [found for found in standing if found.direction is direction]
            handle = _handle_for(there)
            netlink.tc(
                "replace-filter",
                "bpf",
                ifindex,
                handle=handle,
                prio=FILTER_PRIORITY,
                fd=fd,
                name=FILTER_NAME,
                parent=PARENTS[direction],
                direct_action=True,
            )
            for found in there:
                if found.is_ours and found.handle != handle:
                    remove_filter(netlink, found)

    with_netlink(f"attaching to interface {ifindex}", work)


def detach(ifindex: int) -> None:
    """Take our filters off an interface, and clsact if it is empty then. Fine if they are gone."""
    standing = [found for found in list_filters([ifindex]) if found.kind != "tcx"]

    def work(netlink: IPRoute) -> None:
        for found in standing:
            if found.is_ours:
                remove_filter(netlink, found)
        if standing and all(found.is_ours for found in standing):
            remove_clsact(netlink, ifindex)

    with_netlink(f"detaching from interface {ifindex}", work)


def attached() -> tuple[Filter, ...]:
    """All our filters in this network namespace."""
    indices = [index for index, _ in socket.if_nameindex()]
    return tuple(found for found in list_filters(indices) if found.is_ours)


def _handle_for(standing: list[Filter]) -> int:
    """The place to put a program: its own if it stands first, else one that nobody has."""
    if standing and standing[0].is_ours:
        return standing[0].handle
    taken = {found.handle for found in standing if found.priority == FILTER_PRIORITY}
    free = [handle for handle in FILTER_HANDLES if handle not in taken]
    if not free:
        raise DatapathError("others have taken the handles of our filters")
    return free[0]


def with_netlink(what: str, work: Callable[[IPRoute], Result]) -> Result:
    """Do some netlink work, in a thread: pyroute2 runs a loop of its own, which a thread with a
    running loop refuses. The thread is in the network namespace of its maker."""

    def connected() -> Result:
        with IPRoute() as netlink:
            return work(netlink)

    try:
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(connected).result()
    except NetlinkError as error:
        raise DatapathError(what, errno=error.code) from error
    except OSError as error:
        raise DatapathError(what, errno=error.errno or 0) from error


def add_clsact(netlink: IPRoute, ifindex: int) -> None:
    """Make room for filters; fine if there is."""
    try:
        netlink.tc("add", "clsact", ifindex)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise


def remove_clsact(netlink: IPRoute, ifindex: int) -> None:
    """Remove it with all that stands there; fine if it is gone."""
    try:
        netlink.tc("del", "clsact", ifindex)
    except NetlinkError as error:
        if error.code not in {ENOENT, ENODEV, EINVAL}:
            raise


def remove_filter(netlink: IPRoute, found: Filter) -> None:
    """Remove one filter; fine if it is gone."""
    try:
        netlink.tc(
            "del-filter",
            "bpf",
            found.ifindex,
            handle=found.handle,
            prio=found.priority,
            parent=PARENTS[found.direction],
        )
    except NetlinkError as error:
        if error.code not in (ENOENT, ENODEV, EINVAL):
            raise
