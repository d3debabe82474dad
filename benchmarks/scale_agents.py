"""Many agents that follow the inventory: `python -m benchmarks.scale_agents KEYS PORT FIRST LAST`.

In:   the inventory streams of agents FIRST to LAST - 1, each over a connection of its own
Out:  lines on standard output: `whole ENTRIES AGENT TIME` where a stream brought everything, `pod NAME AGENT
      TIME` where a pod of the benchmark's own arrived
Shell. One in SAMPLE is what an agent runs: gRPC's client and `Entries`, which checks every message and keeps
all that stands. The others read the same bytes and answer them, and take apart each different message once
for all of them. All dial again with an agent's own pauses.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import grpc

from benchmarks.light_stream import stream
from netpolicy.errors import TransientError
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.backoff import Backoff
from nodeagent.receive.client import connect
from nodeagent.receive.config import ReceiveConfig
from nodeagent.receive.entries import Entries
from tests.support.push_fleet import config_of

SAMPLE: Final = 50
REMEMBERED_MESSAGES: Final = 1_024
PROBE: Final = "probe-"
"""How the names of the benchmark's own pods begin."""


def name_of(number: int) -> str:
    """An agent's name, and its node's."""
    return f"node-{number:04}"


async def follow(keys: Path, port: int, number: int) -> None:
    """One agent, until it is cancelled."""
    config, backoff = config_of(keys, keys, port, node=name_of(number)), Backoff()
    while True:
        heard = Heard(number, backoff)
        try:
            if number % SAMPLE:
                await stream(config, lambda message: heard.message(taken_apart(message)))  # noqa: B023
            else:
                await _whole_agent(config, heard)
        except (TransientError, grpc.aio.AioRpcError, OSError):
            pass
        await asyncio.sleep(backoff.fail())


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What counts of one message. `completes`: the version that it completes, or 0."""

    entries: int
    probes: tuple[str, ...]
    completes: int


@lru_cache(maxsize=REMEMBERED_MESSAGES)
def taken_apart(message: bytes) -> Found:
    """Once for all agents that were sent the same."""
    return found_in(push_pb2.InventoryUpdate.FromString(message))


def found_in(update: push_pb2.InventoryUpdate) -> Found:
    """What counts of it."""
    names = (entry.key.name for entry in update.upserts)
    return Found(
        entries=len(update.upserts),
        probes=tuple(name for name in names if name.startswith(PROBE)),
        completes=update.version if update.complete else 0,
    )


class Heard:
    """What one stream brought so far."""

    def __init__(self, agent: int, backoff: Backoff) -> None:
        self._agent, self._backoff = agent, backoff
        self._entries, self._is_first = 0, True
        self._probes: list[str] = []

    def message(self, found: Found) -> int:
        """Note a message; the version to answer, or 0."""
        self._entries += found.entries
        self._probes += found.probes
        if found.completes:
            self._tell()
        return found.completes

    def _tell(self) -> None:
        when = f"{self._agent} {time.time()}"
        lines = [f"pod {name} {when}" for name in self._probes]
        if self._is_first:
            lines.append(f"whole {self._entries} {when}")
        if lines:
            print("\n".join(lines), flush=True)
        self._probes, self._is_first = [], False
        self._backoff.succeed()


async def _whole_agent(config: ReceiveConfig, heard: Heard) -> None:
    """Follow with what an agent runs."""
    async with connect(config) as stub:
        call, entries = stub.Inventory(), Entries()
        await call.write(push_pb2.InventoryAck(version=0))
        async for update in call:
            entries.take(update)
            if version := heard.message(found_in(update)):
                await call.write(push_pb2.InventoryAck(version=version))


async def main() -> None:
    """Be all of them."""
    keys, (port, first, last) = Path(sys.argv[1]), map(int, sys.argv[2:])
    async with asyncio.TaskGroup() as agents:
        for number in range(first, last):
            agents.create_task(follow(keys, port, number))


if __name__ == "__main__":
    asyncio.run(main())
