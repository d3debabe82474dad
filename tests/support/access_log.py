"""What a scene's Envoy tells over its access log."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nodeagent.l7.log_server import serve_access_log
from nodeagent.l7.requests import JudgedRequest
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

    def first(self, count: int) -> list[JudgedRequest]:
        """So many requests, taken away; waits for them."""
        with self._more:
            assert self._more.wait_for(lambda: len(self._requests) >= count, PATIENCE_SECONDS)
            taken, self._requests = self._requests[:count], self._requests[count:]
        return taken


@contextmanager
def log_of(scene: EnvoyScene) -> Iterator[Told]:
    """Listen to the log. Requests and connections come by streams of their own, in no order."""
    told = Told()
    server = scene.call(serve_access_log(told.take, scene.settings.access_log))
    try:
        yield told
    finally:
        scene.call(server.stop(None))
