"""Many agents that follow the inventory: `python -m benchmarks.scale_agents KEYS PORT FIRST LAST`.

In:   the inventory streams of agents FIRST to LAST - 1, each over a connection of its own
Out:  lines on standard output: `whole ENTRIES TIME` where a stream brought everything, `pod NAME TIME` where
      a pod of the benchmark's own arrived
Shell. Each takes its messages apart and answers, as an agent does, without building anything from them, and
dials again with an agent's own pauses.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc

from netpolicy.errors import TransientError
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.backoff import Backoff
from nodeagent.receive.client import connect
from tests.support.push_fleet import config_of

PROBE: Final = "probe-"
"""How the names of the benchmark's own pods begin."""


def name_of(number: int) -> str:
    """An agent's name, and its node's."""
    return f"node-{number:04}"


async def follow(keys: Path, port: int, number: int) -> None:
    """One agent, until it is cancelled."""
    backoff = Backoff()
    while True:
        try:
            async with connect(config_of(keys, keys, port, node=name_of(number))) as stub:
                await _stream(stub, backoff)
        except (TransientError, grpc.aio.AioRpcError):
            pass
        await asyncio.sleep(backoff.fail())


async def _stream(stub: Any, backoff: Backoff) -> None:
    call = stub.Inventory()
    entries, is_first = 0, True
    probes: list[str] = []
    async for message in _messages(call):
        entries += len(message.upserts)
        if not is_first:
            names = (entry.key.name for entry in message.upserts)
            probes += [name for name in names if name.startswith(PROBE)]
        if not message.complete:
            continue
        backoff.succeed()
        lines = [f"pod {name} {time.time()}" for name in probes]
        if is_first:
            lines.append(f"whole {entries} {time.time()}")
        if lines:
            print("\n".join(lines), flush=True)
        probes, is_first = [], False
        await call.write(push_pb2.InventoryAck(version=message.version))


async def _messages(call: Any) -> AsyncIterator[push_pb2.InventoryUpdate]:
    async for message in call:
        yield message


async def main() -> None:
    """Be all of them."""
    keys, (port, first, last) = Path(sys.argv[1]), map(int, sys.argv[2:])
    async with asyncio.TaskGroup() as agents:
        for number in range(first, last):
            agents.create_task(follow(keys, port, number))


if __name__ == "__main__":
    asyncio.run(main())
