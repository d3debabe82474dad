"""A Kubernetes service as its users see it: one address, and a replica in turn behind each connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle

from tests.support.cut_line import CutLine


class InTurn(CutLine):
    """Dead replicas have their turn as well: a node's proxy learns of a death much later than agents do."""

    def __init__(self, targets: Sequence[int]) -> None:
        super().__init__(targets[0])
        self._turns = cycle(targets)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to whose turn it is."""
        self.target = next(self._turns)
        await super().serve(reader, writer)


@asynccontextmanager
async def service_port(*targets: int) -> AsyncIterator[int]:
    """The port of a service with these ports of this machine behind it."""
    line = InTurn(targets)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        line.cut()
        server.close()
