"""Put the programs on interfaces, and tell what is there.

In:   interface indices, program descriptors
Out:  tc filters on clsact
Shell over netlink, in the network namespace of the process.

Holds always:
1. Replacing a program leaves no moment without one.
2. Only our own filters (by handle and name) are ever removed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from errno import EEXIST, EINVAL, ENODEV, ENOENT
from typing import Any, Final, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netpolicy.rules import Direction
from nodeagent.datapath.errors import DatapathError

FILTER_HANDLE: Final = 0x7467
FILTER_PRIORITY: Final = 1
FILTER_NAME: Final = "tidegate"
_TCA_BPF_TAG: Final = 10
_TCA_BPF_ID: Final = 11
_NLA_HEADER_BYTES: Final = 4
Result = TypeVar("Result")
_PARENTS: Final = {Direction.EGRESS: 0xFFFFFFF2, Direction.INGRESS: 0xFFFFFFF3}
"""A pod's egress comes in on its interface, and goes out of it to be the pod's ingress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One of our filters. `direction` is the pod's."""

    ifindex: int
    direction: Direction
    program_id: int
    tag: str


def attach(ifindex: int, programs: dict[Direction, int]) -> None:
    """Put both programs on an interface, in place of older ones."""

    def work(netlink: IPRoute) -> None:
        _add_clsact(netlink, ifindex)
        for direction, fd in programs.items():
            netlink.tc(
                "replace-filter",
                "bpf",
                ifindex,
                handle=FILTER_HANDLE,
                prio=FILTER_PRIORITY,
                fd=fd,
                name=FILTER_NAME,
                parent=_PARENTS[direction],
                direct_action=True,
            )

    _with_netlink(f"attaching to interface {ifindex}", work)


def detach(ifindex: int) -> None:
    """Take our filters off an interface. Fine if it or they are gone."""

    def work(netlink: IPRoute) -> None:
        for direction in Direction:
            if list(_filters(netlink, ifindex, direction)):
                _remove_filter(netlink, ifindex, direction)

    _with_netlink(f"detaching from interface {ifindex}", work)


def attached() -> tuple[Attachment, ...]:
    """All our filters in this network namespace."""

    def work(netlink: IPRoute) -> tuple[Attachment, ...]:
        return tuple(
            found
            for link in list(netlink.get_links())
            for direction in Direction
            for found in _filters(netlink, link["index"], direction)
        )

    return _with_netlink("listing filters", work)


def _with_netlink(what: str, work: Callable[[IPRoute], Result]) -> Result:
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


def _add_clsact(netlink: IPRoute, ifindex: int) -> None:
    try:
        netlink.tc("add", "clsact", ifindex)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise


def _remove_filter(netlink: IPRoute, ifindex: int, direction: Direction) -> None:
    try:
        netlink.tc(
            "del-filter",
            "bpf",
            ifindex,
            handle=FILTER_HANDLE,
            prio=FILTER_PRIORITY,
            parent=_PARENTS[direction],
        )
    except NetlinkError as error:
        if error.code not in (ENOENT, ENODEV, EINVAL):
            raise


def _filters(netlink: IPRoute, ifindex: int, direction: Direction) -> Iterator[Attachment]:
    try:
        found = list(netlink.get_filters(index=ifindex, parent=_PARENTS[direction]))
    except NetlinkError as error:
        if error.code in (ENOENT, ENODEV, EINVAL):  # no clsact, or no such interface
            return
        raise
    for message in found:
        options = message.get_attr("TCA_OPTIONS")
        if options is None or message["handle"] != FILTER_HANDLE:
            continue
        if options.get_attr("TCA_BPF_NAME") != FILTER_NAME:
            continue
        yield Attachment(
            ifindex=ifindex,
            direction=direction,
            program_id=int.from_bytes(_raw(options, _TCA_BPF_ID), sys.byteorder),
            tag=_raw(options, _TCA_BPF_TAG).hex(),
        )


def _raw(options: Any, number: int) -> bytes:
    """The bytes of an attribute that pyroute2 has no name for."""
    for name, value in options["attrs"]:
        if name == "UNKNOWN" and value["header"]["type"] == number:
            start, length = value.offset, value["header"]["length"]
            return bytes(value.data[start + _NLA_HEADER_BYTES : start + length])
    return b""
