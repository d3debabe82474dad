"""Answer one HTTP request a connection: for pages and hooks that a web framework is too wide a door for.

In:   an address to listen on, limits, and what answers a request that is being read
Out:  one answer, and the end of the connection
Shell over one socket, in the program's own event loop.

Holds always:
1. A client is cut off after so many seconds and so many bytes of a head; so many are served at once.
2. What a client does, or leaves undone, ends its own connection and nothing else.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from netpolicy.errors import StalledError

ANY_ADDRESS: Final = "::"
PLAIN_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may take, and how many may be there at once."""

    patience_seconds: float
    head_bytes: int
    clients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client gets."""

    status: HTTPStatus
    body: bytes
    content_type: str = PLAIN_TEXT

    def encode(self) -> bytes:
        """The answer as HTTP/1.1 writes it (RFC 9112)."""
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode("ascii") + self.body


class OneAnswerServer:
    """`answer` reads the request; what a broken stream raises there ends the connection."""

    def __init__(
        self,
        listen: str,
        *,
        limits: Limits,
        answer: Callable[[asyncio.StreamReader], Awaitable[Answer]],
    ) -> None:
        """`listen`: `127.0.0.1:9090`, `[::]:9090`. Raises StalledError if it is no such address."""
        self._host, self._port = parse_listen(listen)
        self._limits = limits
        self._answer = answer
        self._clients = 0
        self._server: asyncio.Server | None = None

    async def start(self, *, what: str, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port. Raises StalledError if that is refused: `what` cannot be served."""
        try:
            self._server = await asyncio.start_server(
                self._serve,
                sock=listening_socket(self._host, self._port),
                limit=self._limits.head_bytes,
                ssl=tls,
                ssl_handshake_timeout=self._limits.patience_seconds if tls else None,
            )
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise StalledError(f"cannot serve {what} on {where}: {error.strerror}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            async with asyncio.timeout(self._limits.patience_seconds):
                if self._clients <= self._limits.clients:
                    writer.write((await self._answer(reader)).encode())
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's affair: it gets no answer
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


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
