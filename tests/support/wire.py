"""A TCP relay between an agent and its reconciler, which a test may cut as a policy would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Wire:
    """Bytes of a direction that is cut are taken and never delivered."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.is_cut = False
        self.answers_are_cut = False
        """Only what the reconciler says is lost."""
        self.port = 0

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        with suppress(OSError):
            there, out = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(
                self._pump(reader, out, is_answer=False), self._pump(there, writer, is_answer=True)
            )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not (self.is_cut or (is_answer and self.answers_are_cut)):
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def wired(port: int) -> AsyncIterator[Wire]:
    """A wire to the server at this port."""
    wire = Wire(port)
    server = await asyncio.start_server(wire.relay, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
