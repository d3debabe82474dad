"""Filters on clsact: how programs stand on an interface where the kernel has no tcx (before 6.6).

In:   interface indices, program descriptors, whose programs they are
Out:  tc filters
Shell over netlink, in the network namespace of the caller.

Holds always:
1. Replacing a program, or putting it first again, leaves no moment without one.
2. Only filters of the given owner are ever removed, and clsact only where nothing else stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from errno import EEXIST, EINVAL, ENODEV, ENOENT
from typing import TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netpolicy.rules import Direction
from nodeagent.datapath import libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.filters import FILTER_PRIORITY, PARENTS, Filter, Owner, list_classifiers

Result = TypeVar("Result")


def put_first(ifindex: int, programs: Mapping[Direction, int], owner: Owner) -> bool:
    """Put programs on an interface, in place of older ones, before whatever filter stands there.

    False if all of them stood there, first, already.
    Among filters of one priority the kernel puts a new one first: so ours is added anew under its other
    handle if another stands before it, and only then taken from its old place.
    """
    standing = list_classifiers(ifindex)

    def work(netlink: IPRoute) -> None:
        _add_clsact(netlink, ifindex)
        for direction, fd in programs.items():
            there = [found for found in standing if found.direction is direction]
            handle = _handle_for(there, owner)
            netlink.tc(
                "replace-filter",
                "bpf",
                ifindex,
                handle=handle,
                prio=FILTER_PRIORITY,
                fd=fd,
                name=owner.filter_name,
                parent=PARENTS[direction],
                direct_action=True,
            )
            for found in there:
                if found.owner is owner and found.handle != handle:
                    _remove_filter(netlink, found)

    with_netlink(f"attaching to interface {ifindex}", work)
    return any(_first(standing, way) != libbpf.program_id(fd) for way, fd in programs.items())


def take_off(ifindex: int, owner: Owner) -> None:
    """Take an owner's filters off an interface, and clsact if it is empty then. Fine if they are gone."""
    standing = list_classifiers(ifindex)
    ours = [found for found in standing if found.owner is owner]
    if not ours:
        return

    def work(netlink: IPRoute) -> None:
        for found in ours:
            _remove_filter(netlink, found)
        if len(ours) == len(standing):
            _remove_clsact(netlink, ifindex)

    with_netlink(f"detaching from interface {ifindex}", work)


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


def _first(standing: tuple[Filter, ...], direction: Direction) -> int | None:
    """The program that packets met first."""
    return next((one.program_id for one in standing if one.direction is direction), None)


def _handle_for(standing: list[Filter], owner: Owner) -> int:
    """The place to put a program: its own if it stands first, else one that nobody has."""
    if standing and standing[0].owner is owner:
        return standing[0].handle
    taken = {found.handle for found in standing if found.priority == FILTER_PRIORITY}
    free = [handle for handle in owner.handles if handle not in taken]
    if not free:
        raise DatapathError("others have taken the handles of our filters")
    return free[0]


def _add_clsact(netlink: IPRoute, ifindex: int) -> None:
    try:
        netlink.tc("add", "clsact", ifindex)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise


def _remove_clsact(netlink: IPRoute, ifindex: int) -> None:
    """With all that stands there; fine if it is gone."""
    try:
        netlink.tc("del", "clsact", ifindex)
    except NetlinkError as error:
        if error.code not in {ENOENT, ENODEV, EINVAL}:
            raise


def _remove_filter(netlink: IPRoute, found: Filter) -> None:
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
