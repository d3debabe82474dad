"""Wait for the next time that something happens which happens again and again.

In:   announcements
Out:  everybody who waited goes on
Shell over the running loop; one thread.
"""

from __future__ import annotations

import asyncio


class Turns:
    """Who looks, finds it is not so yet, and then waits without an await between misses nothing."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def announce(self) -> None:
        """It happened."""
        self._next.set()
        self._next = asyncio.Event()

    async def next(self) -> None:
        """Wait until it happens."""
        await self._next.wait()
