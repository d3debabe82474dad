"""Answer a cluster's probes and whoever scrapes metrics: `/livez`, `/readyz` and `/metrics` over HTTP.

In:   an address to listen on; what the metrics are and whether the program is ready, asked at each request
Out:  Prometheus' text format; 200 or 503
Shell over one socket, in the program's own event loop: `/livez` answers only while that loop turns.

Holds always:
1. Nothing can be changed through it, and nothing of a request but its path is looked at.
2. A client is cut off after `PATIENCE_SECONDS` and `MAX_REQUEST_BYTES`; at most `MAX_CLIENTS` are served.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from netpolicy.errors import StalledError

PATIENCE_SECONDS: Final = 5.0
MAX_REQUEST_BYTES: Final = 8192
MAX_CLIENTS: Final = 16
ANY_ADDRESS: Final = "::"
PLAIN_TEXT: Final = "text/plain; charset=utf-8"
Answer = tuple[HTTPStatus, str, bytes]


class StatusPages:
    """The pages of one program."""

    def __init__(
        self,
        listen: str,
        *,
        metrics: Callable[[], Sequence[Metric]],
        is_ready: Callable[[], bool],
    ) -> None:
        """`listen`: `127.0.0.1:9090`, `[::]:9090`. Raises StalledError if it is no such address."""
        self._host, self._port = parse_listen(listen)
        self._metrics = metrics
        self._is_ready = is_ready
        self._clients = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises StalledError if that is refused."""
        try:
            listening = listening_socket(self._host, self._port)
            self._server = await asyncio.start_server(
                self._serve, sock=listening, limit=MAX_REQUEST_BYTES
            )
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise StalledError(f"cannot serve metrics on {where}: {error.strerror}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._clients <= MAX_CLIENTS:
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_response(self._answer(head)))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's affair: it gets no answer
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> Answer:
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
        if method != b"GET":
            return HTTPStatus.METHOD_NOT_ALLOWED, PLAIN_TEXT, b"only GET\n"
        if path == b"/livez":
            return HTTPStatus.OK, PLAIN_TEXT, b"ok\n"
        if path == b"/readyz":
            if self._is_ready():
                return HTTPStatus.OK, PLAIN_TEXT, b"ok\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, PLAIN_TEXT, b"not ready\n"
        if path == b"/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, exposition(self._metrics())
        return HTTPStatus.NOT_FOUND, PLAIN_TEXT, b"/metrics, /livez, /readyz\n"


class _Collected(Collector):
    """What was collected already, as the library wants to be handed it."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(metrics: Sequence[Metric]) -> bytes:
    """Metrics in Prometheus' text format."""
    return generate_latest(_Collected(metrics))


def parse_listen(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises StalledError."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise StalledError(f'"{listen}": write an address and a port, such as 127.0.0.1:9090')
    return host, int(port)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; `::` means IPv4 too, and IPv4 alone where there is no IPv6, as gRPC has it."""
    if host == ANY_ADDRESS:
        try:
            family = socket.AF_INET6
            return socket.create_server((host, port), family=family, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            host = "0.0.0.0"  # noqa: S104  the same, in the family that there is
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _response(answer: Answer) -> bytes:
    status, kind, body = answer
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
