"""What a scene's Envoy tells over its access log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import Any

from nodeagent.l7.requests import JudgedRequest
from nodeagent.request_log import RequestLog, Take
from tests.support.envoy_scene import EnvoyScene

PATIENCE_SECONDS = 30.0


class Told:
    """What the log told, as it comes."""

    def __init__(self) -> None:
        self._requests: list[JudgedRequest] = []
        self._more = threading.Condition()

    def take(self, batch: Sequence[JudgedRequest]) -> None:
        with self._more:
            self._requests += batch
            self._more.notify()

    def all(self) -> list[JudgedRequest]:
        """What was told by now, taken away."""
        with self._more:
            taken, self._requests = self._requests, []
        return taken

    def first(self, count: int) -> list[JudgedRequest]:
        """So many requests, taken away; waits for them."""
        with self._more:
            assert self._more.wait_for(lambda: len(self._requests) >= count, PATIENCE_SECONDS)
            taken, self._requests = self._requests[:count], self._requests[count:]
        return taken


@contextmanager
def log_of(scene: EnvoyScene) -> Iterator[Told]:
    """Read the log, from now on."""
    told = Told()
    with running(scene, begun_log(scene, told.take).run()):
        yield told


def begun_log(scene: EnvoyScene, take: Take) -> RequestLog:
    """The log from now on, as the agent reads it once `run` runs."""

    async def begun() -> RequestLog:
        made = RequestLog(scene.settings.access_log, scene.settings.admin, take)
        made.begin()
        return made

    return scene.call(begun())


@contextmanager
def running(scene: EnvoyScene, work: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Run something in the agent's loop meanwhile."""
    task = asyncio.run_coroutine_threadsafe(work, scene.loop)
    try:
        yield
    finally:
        task.cancel()
        with suppress(CancelledError):
            task.result(10)
