"""The announcement to answer next: of several that come meanwhile, only the latest."""

from __future__ import annotations

import asyncio

from netpolicy.wire.tidegate.v1 import push_pb2


class Latest:
    """A slot for one announcement: a newer one takes the place of one not yet taken."""

    def __init__(self) -> None:
        self._value: push_pb2.Announcement | None = None
        self._arrived = asyncio.Event()

    def put(self, value: push_pb2.Announcement) -> None:
        """Make this the next one."""
        self._value = value
        self._arrived.set()

    async def get(self) -> push_pb2.Announcement:
        """Wait for one, and take it."""
        while (value := self._value) is None:
            self._arrived.clear()
            await self._arrived.wait()
        self._value = None
        return value
