"""Pass connections on to the replica that leads.

In:   connections; where the leader is
Out:  the same bytes at the leader
Shell over one listening socket. Nothing is read or decrypted: agents and the leader speak TLS with each
other, through here.

Holds always:
1. While no leader answers, a connection waits for one, for a bounded time: who dialled in the seconds
   between two leaders is served by the next one without another dial.
2. When either side's connection ends, so does the other's: the agent dials again.
3. A replica never passes on to itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from netpolicy.errors import StalledError
from netpolicy.one_answer_server import parse_listen

log = structlog.get_logger()

CONNECT_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 18.0
"""For a leader that answers. An agent gives up on a connection that says nothing after 20."""

LOOK_SECONDS: Final = 0.5
"""About so often is looked for one; never all at the same moment."""

PIECE_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 10_000


class Forwarder:
    """A port whose connections end at the leader."""

    def __init__(self, listen: str, leader: Callable[[], str]) -> None:
        """`leader`: its `host:port`, empty while there is none or it is this replica."""
        self._host, self._port = parse_listen(listen)
        self._leader = leader
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; returns the port."""
        try:
            self._server = await asyncio.start_server(self._serve, self._host, self._port)
        except OSError as error:
            raise StalledError(f"cannot listen on {self._host}:{self._port}: {error}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the socket and every connection."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._pass_on(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) > MAX_CONNECTIONS:
            return
        async with asyncio.timeout(WAIT_SECONDS):
            there, back = await self._reach()
        ways = [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the leader, as soon as there is one that answers."""
        while True:
            host, _, port = self._leader().rpartition(":")
            if host:
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(CONNECT_SECONDS):
                        return await asyncio.open_connection(host.strip("[]"), int(port))
            await asyncio.sleep(random.uniform(0.5, 1.5) * LOOK_SECONDS)  # noqa: S311  spreads load


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE_BYTES):
            writer.write(data)
            await writer.drain()
