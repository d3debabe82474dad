"""So many at a time: what all want at once, each gets soon, one after the other.

Served side by side, a thousand streams that begin together would all end with the last of them.

Holds always:
1. Whoever takes longer than its time goes on, and holds up nobody: a stuck reader costs one place, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """A few places, taken in the order of asking."""

    def __init__(self, *, places: int, seconds: float) -> None:
        self._places = asyncio.Semaphore(places)
        self._seconds = seconds

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a place; it is given up at the end of the block, or when its time is over."""
        await self._places.acquire()
        is_held = True

        def give_up() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                self._places.release()

        overdue = asyncio.get_running_loop().call_later(self._seconds, give_up)
        try:
            yield
        finally:
            overdue.cancel()
            give_up()
