"""Many agents that only listen: `python -m benchmarks.rollback_agents KEYS PORT FIRST LAST`.

In:   announcements
Out:  a line for each on standard output: the publication's sequence, and when it was heard
Shell. Each says that it took what was announced, as an agent does, without fetching it: verifying would
measure this machine's processors once more for every agent.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.client import connect
from tests.support.push_fleet import config_of

DIALS_AT_ONCE = 20


def name_of(number: int) -> str:
    """An agent's name."""
    return f"listener-{number}"


async def listen(keys: Path, port: int, number: int, dialling: asyncio.Semaphore) -> None:
    """One agent, until it is cancelled."""
    name = name_of(number)
    async with connect(config_of(keys, keys, port, node=name)) as stub:
        call = stub.Announce()
        async with dialling:
            await call.write(push_pb2.AgentMessage(hello=push_pb2.Hello(instance=name)))
            await call.initial_metadata()
        answers = 0
        async for message in call:
            if message.WhichOneof("kind") != "announcement":
                continue
            announced = message.announcement
            print(announced.sequence, time.time(), flush=True)
            answers += 1
            ack = push_pb2.Ack(
                nonce=announced.nonce,
                version=announced.version,
                sequence=announced.sequence,
                digest=announced.digest,
                answer=answers,
            )
            await call.write(push_pb2.AgentMessage(ack=ack))


async def main() -> None:
    """Be all of them."""
    keys, (port, first, last) = Path(sys.argv[1]), map(int, sys.argv[2:])
    dialling = asyncio.Semaphore(DIALS_AT_ONCE)
    async with asyncio.TaskGroup() as agents:
        for number in range(first, last):
            agents.create_task(listen(keys, port, number, dialling))


if __name__ == "__main__":
    asyncio.run(main())
