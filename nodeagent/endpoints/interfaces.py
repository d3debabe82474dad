"""Watch the network interfaces of this node's namespace.

In:   the kernel's link notifications (rtnetlink)
Out:  name → interface index now, and again after each change
Shell over one netlink socket. The notification says only that something changed; the list is read anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Final

RTMGRP_LINK: Final = 1
RECHECK_SECONDS: Final = 5.0
_READ_BYTES: Final = 65_536


async def watch_interfaces() -> AsyncIterator[Mapping[str, int]]:
    """Yield the interfaces whenever they differ from before."""
    last: Mapping[str, int] | None = None
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.setblocking(False)
        netlink.bind((0, RTMGRP_LINK))
        loop.add_reader(netlink, _drain, netlink, changed)
        try:
            while True:
                changed.clear()
                current = {name: index for index, name in socket.if_nameindex()}
                if current != last:
                    last = current
                    yield current
                try:
                    await asyncio.wait_for(changed.wait(), RECHECK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            loop.remove_reader(netlink)


def _drain(netlink: socket.socket, changed: asyncio.Event) -> None:
    """Empty the socket: what it says is read from the list. Overflow (ENOBUFS) is a change, too."""
    changed.set()
    while True:
        try:
            netlink.recv(_READ_BYTES)
        except OSError:
            return
