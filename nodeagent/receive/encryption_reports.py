"""Say this node's public keys, and how its tunnels are, as often as it is news.

In:   the node's word on its encryption, asked for once a second
Out:  messages on the stream
Shell over the stream.

Holds always:
1. Nothing is said before the reconciler said that it listens: an older one would end the stream.
2. Each conversation begins with a report, however dull: what the reconciler remembers may be outdated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from netpolicy.node_encryption import NodeEncryption
from netpolicy.wire.node_encryption import encode_node_encryption
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.reports import Stream

LOOK_SECONDS: Final = 1.0

AskEncryption = Callable[[], NodeEncryption]


class EncryptionReports:
    """The reports of one conversation."""

    def __init__(self, stream: Stream, ask: AskEncryption) -> None:
        self._stream = stream
        self._ask = ask
        self._may_begin = asyncio.Event()
        self._said: NodeEncryption | None = None

    def begin(self) -> None:
        """The reconciler listens."""
        self._may_begin.set()

    async def run(self) -> None:
        """Report for ever."""
        await self._may_begin.wait()
        while True:
            report = self._ask()
            if report != self._said:
                message = push_pb2.AgentMessage(encryption=encode_node_encryption(report))
                await self._stream.say(message)
                self._said = report
            await asyncio.sleep(LOOK_SECONDS)
