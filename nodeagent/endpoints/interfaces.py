"""Watch the network interfaces of this node's namespace, and what is taken off them.

In:   the kernel's notifications of links, queueing disciplines and filters (rtnetlink)
Out:  Interfaces: the links now, and what lost a filter; again after each change
Shell over one netlink socket. A notification says where something went; the list is read anew.

Holds always:
1. An interface that went and came back under its name and index between two reads counts as lost.
2. When notifications were too many to hear, every interface counts as lost.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from nodeagent.endpoints.links import Link, read_links

RTMGRP_LINK: Final = 1
RTMGRP_TC: Final = 8
RTM_DELLINK: Final = 17
RTM_DELQDISC: Final = 37
RTM_DELTFILTER: Final = 45
_LOSSES: Final = frozenset({RTM_DELLINK, RTM_DELQDISC, RTM_DELTFILTER})
RECHECK_SECONDS: Final = 5.0
_READ_BYTES: Final = 65_536
_SO_RCVBUFFORCE: Final = 33
_RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
_HEADER: Final = struct.Struct("=IHHII")
_INDEX: Final = struct.Struct("=i")
_INDEX_OFFSET: Final = _HEADER.size + 4
"""In ifinfomsg as in tcmsg, the index comes after four bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interfaces:
    """Every interface; `lost` are indices that may have lost filters since the last."""

    links: tuple[Link, ...]
    lost: frozenset[int] = frozenset()

    @property
    def indices(self) -> Mapping[str, int]:
        """Name → index."""
        return {link.name: link.index for link in self.links}


async def watch_interfaces() -> AsyncIterator[Interfaces]:
    """Yield the interfaces whenever they differ from before, or something was taken off one."""
    last: frozenset[Link] | None = None
    heard = _Heard()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.setblocking(False)
        netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        netlink.bind((0, RTMGRP_LINK | RTMGRP_TC))
        loop.add_reader(netlink, heard.drain, netlink)
        try:
            while True:
                lost = heard.take()
                links = read_links()
                if lost is None:
                    lost = frozenset(link.index for link in links)
                if frozenset(links) != last or lost:
                    last = frozenset(links)
                    yield Interfaces(links=links, lost=lost)
                try:
                    await asyncio.wait_for(heard.anything.wait(), RECHECK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            loop.remove_reader(netlink)


@dataclass(slots=True)
class _Heard:
    """What the socket said since it was last asked. `lost` None: too much to tell."""

    anything: asyncio.Event = field(default_factory=asyncio.Event)
    lost: set[int] | None = field(default_factory=set)

    def take(self) -> frozenset[int] | None:
        """What was lost; begin anew."""
        lost, self.lost = self.lost, set()
        self.anything.clear()
        return None if lost is None else frozenset(lost)

    def drain(self, netlink: socket.socket) -> None:
        """Empty the socket."""
        self.anything.set()
        while True:
            try:
                data = netlink.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # ENOBUFS: the kernel had more to say than the socket holds
                self.lost = None
                return
            if self.lost is not None:
                self.lost.update(losses(data))


def losses(data: bytes) -> Iterator[int]:
    """The interface of each message that says that a link, a qdisc or a filter went."""
    start = 0
    while start + _INDEX_OFFSET + _INDEX.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size:
            return
        if kind in _LOSSES:
            yield _INDEX.unpack_from(data, start + _INDEX_OFFSET)[0]
        start += (length + 3) & ~3
