"""Follow Envoy's access log and hand on what it tells.

In:   the file, Envoy's admin socket
Out:  judged requests and refused connections, a batch a read
Shell over the log file; one event loop.

Holds always:
1. A read, and what is made of it, is bounded; between two of them everybody else has a turn.
2. A file that cannot be read ends nothing: requests are judged all the same, and counted as untold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from nodeagent.envoy.admin import Admin
from nodeagent.envoy.errors import ProxyError
from nodeagent.envoy.log_file import LogFile
from nodeagent.l7.log_entries import decode_entries
from nodeagent.l7.requests import JudgedRequest, judged_requests

LOG_FAILED: Final = "access_log_failed"
LOOK_SECONDS: Final = 0.1
ASK_SECONDS: Final = 1.0
"""Between two times that Envoy is asked to begin a new file."""

log: Final = structlog.get_logger()

Take = Callable[[Sequence[JudgedRequest]], None]


class RequestLog:
    """One reader. What was written before `begin` is not told."""

    def __init__(self, path: Path, admin: Path, take: Take) -> None:
        self._path = path
        self._admin = Admin(admin)
        self._take = take
        self._file: LogFile | None = None
        self._asked = float("-inf")
        self._end = asyncio.Event()
        self._fault = ""

    def begin(self) -> None:
        """Tell what is written from now on."""
        try:
            self._file = LogFile(self._path)
        except OSError as error:
            self._say(error)

    async def run(self) -> None:
        """Read for ever."""
        try:
            while True:
                await asyncio.sleep(LOOK_SECONDS if self._turn() else 0)
                await self._turn_over()
        finally:
            if self._file is not None:
                self._file.close()

    async def read_up(self) -> None:
        """Return once all that is in the file by now has been taken."""
        self._end.clear()
        await self._end.wait()

    def _turn(self) -> bool:
        """Take what one read brings; True if there is no more for now."""
        if self._file is None:
            self.begin()
        lines = self._read()
        if lines:
            self._fault = ""
            self._take(judged_requests(decode_entries(lines)))
        if lines is None:
            self._end.set()
        return lines is None

    def _read(self) -> bytes | None:
        try:
            return self._file.read() if self._file else None
        except OSError as error:
            self._say(error)
            return None

    async def _turn_over(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            if self._file is None or not self._file.turn_over() or now < self._asked + ASK_SECONDS:
                return
            self._asked = now
            await asyncio.to_thread(self._admin.begin_new_logs)
        except ProxyError:
            return  # It does not run. Its successor begins a new file by itself.
        except OSError as error:
            self._say(error)

    def _say(self, error: OSError) -> None:
        """Once, until it can be read again."""
        if str(error) != self._fault:
            self._fault = str(error)
            log.error(LOG_FAILED, path=str(self._path), error=self._fault)
