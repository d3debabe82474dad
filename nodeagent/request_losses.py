"""Compare what Envoy wrote to its access log with what came in.

In:   Envoy's statistics, the count of requests taken
Out:  losses, told to the followers of flows in their place, and to the status
Shell over Envoy's admin socket. What counts as lost is `nodeagent.l7.log_losses`' business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodeagent.envoy.admin import Admin
from nodeagent.envoy.errors import ProxyError
from nodeagent.l7.log_losses import LogLosses, beginning, looked

LOOK_SECONDS: Final = 5.0
ARRIVAL_SECONDS: Final = 2.0
"""What was written is here after so long, or never: Envoy sends four times a second."""
_STEM: Final = "access_logs.grpc_access_log."
_COUNTS: Final = frozenset({f"{_STEM}logs_written", f"{_STEM}logs_dropped"})


class RequestLosses:
    """Looks every few seconds while Envoy answers."""

    def __init__(
        self, admin: Path, received: Callable[[], int], lose: Callable[[int], None]
    ) -> None:
        self._admin = Admin(admin)
        self._received = received
        self._lose = lose
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
            if written is not None:
                self._take(looked(self._losses, written=written, received=self._received()))

    def _take(self, now: LogLosses) -> None:
        more = now.lost - self._losses.lost
        self._losses = now
        if more:
            self._lose(more)

    async def _written(self) -> int | None:
        try:
            told = await asyncio.to_thread(self._admin.statistics, f"^{_STEM.replace('.', '[.]')}")
        except ProxyError:
            return None
        return sum(int(value) for name, value in told.items() if name in _COUNTS)
