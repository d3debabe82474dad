"""A TCP line that a test can cut, silence or slow down: who uses it loses the server, or finds it far."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress


class CutLine:
    """Connections to `port` reach the target unless the line is cut."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        self.delay_seconds = 0.0
        """How long each piece is held up, in either direction."""
        self.is_silent = False
        """What either side says is taken and lost, as by a policy that drops their packets."""
        self.answers_are_lost = False
        """Only what the server says is."""
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break every connection and take no other."""
        self._is_cut = True
        for task in self._tasks:
            task.cancel()

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways."""
        self.connections += 1
        with suppress(OSError, asyncio.CancelledError):
            if not self._is_cut:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
                await self._join(
                    self._copy(reader, back, is_answer=False),
                    self._copy(there, writer, is_answer=True),
                )
                self._end(back)
        self._end(writer)

    async def _join(self, *ways: Coroutine[None, None, None]) -> None:
        """Until one side ends the connection, or the line is cut."""
        tasks = {asyncio.create_task(way) for way in ways}
        self._tasks |= tasks
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        self._tasks -= tasks

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay_seconds)
                if not (self.is_silent or (is_answer and self.answers_are_lost)):
                    writer.write(data)
                    await writer.drain()

    def _end(self, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
        else:
            writer.close()


@asynccontextmanager
async def cut_line(target: int) -> AsyncIterator[CutLine]:
    """A line to a port of this machine, until the end of the block."""
    line = CutLine(target)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        line.cut()
        server.close()
