"""Watch the Envoy that `nodeagent proxy` keeps running.

In:   EnvoySettings
Out:  whether it runs, and how often another took its place
Shell over one idle connection to its administrator's socket, which ends when Envoy does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import structlog

from nodeagent.envoy.admin import peer_process
from nodeagent.envoy.settings import EnvoySettings

FOUND: Final = "envoy_found"
GONE: Final = "envoy_gone"
LOOK_SECONDS: Final = 0.2

log: Final = structlog.get_logger()

_Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Watcher:
    """One Envoy, seen from beside."""

    def __init__(self, settings: EnvoySettings) -> None:
        self._path = settings.admin
        self.pid: int | None = None
        self.restarts = 0

    async def run(self) -> None:
        """Never returns."""
        last: tuple[int, int] | None = None
        while True:
            reader, writer = await self._connect()
            now = _born(self._path)
            self.restarts += last not in (None, now)
            last = now
            self.pid = peer_process(writer.get_extra_info("socket"))
            log.info(FOUND, restarts=self.restarts)
            try:
                await _ended(reader)
            finally:
                writer.close()

    async def _connect(self) -> _Line:
        """A connection as soon as there is one to be had. An idle one that Envoy closed is had at once."""
        while True:
            try:
                return await asyncio.open_unix_connection(self._path)
            except OSError:
                if self.pid is not None:
                    log.error(GONE)
                self.pid = None
            await asyncio.sleep(LOOK_SECONDS)


async def _ended(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(4096):
            pass
    except OSError:
        return


def _born(path: Path) -> tuple[int, int]:
    """Tells one Envoy's socket from the next one's; zeros if it is being replaced."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_ctime_ns
