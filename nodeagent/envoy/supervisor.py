"""Keep one Envoy running: adopt the one that runs, start one where none does, start it again when it dies.

In:   EnvoySettings
Out:  a running Envoy that has the bootstrap of this agent; its pid, its restarts
Shell over one process.

Holds always:
1. There is at most one: one with another bootstrap is ended before its successor starts.
2. The end of the agent leaves it running, with the connections it has.
3. While none runs, redirected flows have nobody to go to, and are dropped by the kernel.
4. One that somebody ends is started again after `FIRST_PAUSE_SECONDS` at most, however often; only one that
   fails by itself soon after its start is waited for longer each time.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from netpolicy.durable_files import replace
from netpolicy.errors import StalledError, TransientError
from nodeagent.envoy.admin import Admin
from nodeagent.envoy.bootstrap import DIGEST_KEY, bootstrap
from nodeagent.envoy.errors import ProxyError
from nodeagent.envoy.process import end, find_binary, start
from nodeagent.envoy.settings import EnvoySettings

STARTED: Final = "envoy_started"
ADOPTED: Final = "envoy_adopted"
REPLACED: Final = "envoy_replaced"
DIED: Final = "envoy_died"

TWO_ENVOYS: Final = "TwoEnvoys"
SHORT_LIFE_SECONDS: Final = 10.0
FIRST_PAUSE_SECONDS: Final = 0.1
LAST_PAUSE_SECONDS: Final = 1.0
"""Between two starts of an Envoy that fails at once; one that lived for a while is started again at once."""
ENDED_BY_OTHERS: Final = frozenset(
    {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}
)
"""How a process ends that did not fail by itself."""
END_SECONDS: Final = 5

log: Final = structlog.get_logger()


class Supervisor:
    """One Envoy, for as long as `run` runs and beyond."""

    def __init__(
        self, settings: EnvoySettings, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._now = now
        self._admin = Admin(settings.admin)
        self._child: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None
        self.restarts = 0

    async def run(self) -> None:
        """Never returns. Raises StalledError if there is no program to run, or another's runs already."""
        binary = find_binary(self._settings)
        pause = 0.0
        while True:
            began = self._now()
            self.pid = await asyncio.to_thread(self._adopt_or_start, binary)
            await _ended(self.pid)
            code = self._reap()
            log.error(DIED, pid=self.pid, code=code)
            self.pid = None
            self.restarts += 1
            pause = pause_after(pause, lived_seconds=self._now() - began, code=code)
            await asyncio.sleep(pause)

    def _adopt_or_start(self, binary: Path) -> int:
        digest, data = bootstrap(self._settings)
        running = self._admin.process()
        if running == 0:
            raise StalledError(
                f"the Envoy of another container answers on {self._settings.admin}",
                reason=TWO_ENVOYS,
            )
        if running is not None:
            if self._is_ours(digest):
                log.info(ADOPTED, pid=running)
                return running
            log.warning(REPLACED, pid=running)
            _end_and_wait(running)
        replace(self._settings.bootstrap, data)
        self._child = start(binary, self._settings)
        log.info(STARTED, pid=self._child.pid)
        return self._child.pid

    def _is_ours(self, digest: str) -> bool:
        """True if the Envoy that runs was started with today's bootstrap."""
        try:
            told = self._admin.server()
        except ProxyError:
            return False
        return bool(told.get("node", {}).get("metadata", {}).get(DIGEST_KEY) == digest)

    def _reap(self) -> int | None:
        """How it ended; None of one that another agent started."""
        if self._child is None:
            return None
        code = self._child.wait()
        self._child = None
        return code


def pause_after(before: float, *, lived_seconds: float, code: int | None) -> float:
    """How long to wait until the next start, after an Envoy that ended so, and the pause before it."""
    if lived_seconds > SHORT_LIFE_SECONDS:
        return 0.0
    if code is None or code in ENDED_BY_OTHERS:
        return FIRST_PAUSE_SECONDS
    return min(max(before * 2, FIRST_PAUSE_SECONDS), LAST_PAUSE_SECONDS)


async def _ended(pid: int) -> None:
    """Wait for the end of any process, our child or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _end_and_wait(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        end(pid)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if not ended.poll(END_SECONDS * 1000):
            raise TransientError(f"Envoy (process {pid}) does not end")
    finally:
        os.close(descriptor)
