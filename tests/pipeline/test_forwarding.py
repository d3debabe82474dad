"""A replica that does not lead: whom it passes on, whom it keeps waiting, whom it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from reconciler.cluster import forward
from reconciler.cluster.forward import Forwarder
from tests.support.reconciler_scene import a_free_port

PATIENCE_SECONDS = 30


class Leader:
    """Where it is, and what it is told: it answers each line with the same."""

    def __init__(self) -> None:
        self.address = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()


@asynccontextmanager
async def dialled(
    leader: Leader,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a replica that passes on to this leader."""
    forwarder = Forwarder("127.0.0.1:0", lambda: leader.address)
    port = await forwarder.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await forwarder.stop()


def test_who_dials_between_two_leaders_is_served_by_the_next_one() -> None:
    """Neither nobody nor a dead leader's address ends the connection."""

    async def script() -> None:
        leader = Leader()
        async with dialled(leader) as (reader, writer):
            writer.write(b"hello\n")
            leader.address = f"127.0.0.1:{a_free_port()}"
            await asyncio.sleep(2 * forward.LOOK_SECONDS)  # it has been tried
            async with leader.serving():
                answer = await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)
        assert answer == b"hello\n"

    asyncio.run(script())


def test_who_waited_for_long_enough_dials_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "WAIT_SECONDS", 0.2)

    async def script() -> None:
        async with dialled(Leader()) as (reader, _):
            assert await asyncio.wait_for(reader.read(), PATIENCE_SECONDS) == b""

    asyncio.run(script())
