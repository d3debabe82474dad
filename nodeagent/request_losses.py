"""Compare what Envoy wrote to its access log with what came in.

In:   Envoy's statistics, the count of requests taken
Out:  losses, told to the followers of flows in their place, and to the status
Shell over Envoy's admin socket. What counts as lost is `nodeagent.l7.log_losses`' business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from nodeagent.envoy.admin import Admin
from nodeagent.envoy.errors import ProxyError
from nodeagent.l7.log_losses import LogLosses, beginning, looked

LOOK_SECONDS: Final = 5.0
ARRIVAL_SECONDS: Final = 2.0
"""What was written is in the file after so long, or never: Envoy writes it four times a second."""
_WRITTEN: Final = "filesystem.write_buffered"
"""Entries, whether they came to the file or not: Envoy writes no other."""


class RequestLosses:
    """Looks every few seconds while Envoy answers."""

    def __init__(
        self,
        admin: Path,
        received: Callable[[], int],
        lose: Callable[[int], None],
        read_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`read_up` returns once what is in the file has been taken."""
        self._admin = Admin(admin)
        self._received = received
        self._lose = lose
        self._read_up = read_up
        self._losses = LogLosses()

    @property
    def lost(self) -> int:
        """Requests that nobody was told of, since the agent listens."""
        return self._losses.lost

    async def begin(self) -> None:
        """Count from here on: call it before the log can come in."""
        written = await self._written()
        self._losses = beginning(written or 0, self._received())

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS - ARRIVAL_SECONDS)
            written = await self._written()
            await asyncio.sleep(ARRIVAL_SECONDS)
            await self._read_up()
            if written is not None:
                self._take(looked(self._losses, written=written, received=self._received()))

    def _take(self, now: LogLosses) -> None:
        more = now.lost - self._losses.lost
        self._losses = now
        if more:
            self._lose(more)

    async def _written(self) -> int | None:
        try:
            told = await asyncio.to_thread(self._admin.statistics, f"^{re.escape(_WRITTEN)}$")
        except ProxyError:
            return None
        return int(told.get(_WRITTEN, 0))
