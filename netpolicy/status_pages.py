"""Answer a cluster's probes and whoever scrapes metrics: `/livez`, `/readyz` and `/metrics` over HTTP.

In:   an address to listen on; what the metrics are and whether the program is ready, asked at each request
Out:  Prometheus' text format; 200 or 503
Shell over one server, in the program's own event loop: `/livez` answers only while that loop turns.

Holds always: nothing can be changed through it, and of a request only method and path are looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from netpolicy.one_answer_server import Answer, Limits, OneAnswerServer

LIMITS: Final = Limits(patience_seconds=5.0, head_bytes=8192, clients=16)


class StatusPages:
    """The pages of one program."""

    def __init__(
        self,
        listen: str,
        *,
        metrics: Callable[[], Sequence[Metric]],
        is_ready: Callable[[], bool],
        why_not: Callable[[], str] = lambda: "",
        limits: Limits = LIMITS,
    ) -> None:
        """`listen`: `127.0.0.1:9090`, `[::]:9090`. Raises StalledError if it is no such address.

        `why_not`: what a program that is not ready waits for, in words.
        """
        self._metrics = metrics
        self._is_ready = is_ready
        self._why_not = why_not
        self._server = OneAnswerServer(listen, limits=limits, answer=self._answer)

    async def start(self) -> int:
        """Listen; returns the port. Raises StalledError if that is refused."""
        return await self._server.start(what="metrics")

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
        if method != b"GET":
            return Answer(status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"only GET\n")
        if path == b"/livez":
            return Answer(status=HTTPStatus.OK, body=b"ok\n")
        if path == b"/readyz":
            if self._is_ready():
                return Answer(status=HTTPStatus.OK, body=b"ok\n")
            body = ": ".join(filter(None, ("not ready", self._why_not()))) + "\n"
            return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=body.encode())
        if path == b"/metrics":
            return Answer(
                status=HTTPStatus.OK,
                body=exposition(self._metrics()),
                content_type=CONTENT_TYPE_PLAIN_0_0_4,
            )
        return Answer(status=HTTPStatus.NOT_FOUND, body=b"/metrics, /livez, /readyz\n")


class _Collected(Collector):
    """What was collected already, as the library wants to be handed it."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(metrics: Sequence[Metric]) -> bytes:
    """Metrics in Prometheus' text format."""
    return generate_latest(_Collected(metrics))
