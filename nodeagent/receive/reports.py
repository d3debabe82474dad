"""Report what this node sees of a shadow, as often as it is news.

In:   evidence, asked for once a second
Out:  messages on the stream
Shell over the stream; when to send is decided by `Pace`, which is pure.

Holds always:
1. What changed is reported within a second, unless reports are so large that it must wait its turn;
   what did not is repeated, so that a reconciler that lost it learns it again.
2. A node sends no more than `BYTES_PER_SECOND` of evidence for long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from netpolicy.evidence import NodeEvidence
from netpolicy.wire.evidence import encode_evidence
from netpolicy.wire.tidegate.v1 import push_pb2

LOOK_SECONDS: Final = 1.0
REPEAT_SECONDS: Final = 10.0
BYTES_PER_SECOND: Final = 32 * 1024

AskEvidence = Callable[[], Awaitable[NodeEvidence | None]]


@dataclass(slots=True)
class Pace:
    """When the next report is due: after a change at once, but never above the bandwidth."""

    last: NodeEvidence | None = None
    sent_at: float = float("-inf")
    size: int = 0

    def is_due(self, evidence: NodeEvidence, *, now: float) -> bool:
        """True if this is to be sent now."""
        silence = now - self.sent_at
        if evidence == self.last:
            return silence >= REPEAT_SECONDS
        return silence >= self.size / BYTES_PER_SECOND

    def sent(self, evidence: NodeEvidence, size: int, *, now: float) -> None:
        """Note what was sent."""
        self.last, self.size, self.sent_at = evidence, size, now


class Stream:
    """The agent's side of a stream: what several tasks have to say, one message after the other."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._turn = asyncio.Lock()

    async def say(self, message: push_pb2.AgentMessage) -> None:
        """Send a message when it is its turn."""
        async with self._turn:
            await self._call.write(message)


def of_candidate(evidence: push_pb2.Evidence) -> push_pb2.AgentMessage:
    """What is said of a candidate."""
    return push_pb2.AgentMessage(evidence=evidence)


def of_preview(evidence: push_pb2.Evidence) -> push_pb2.AgentMessage:
    """What is said of the policies that are not enforced."""
    return push_pb2.AgentMessage(preview=evidence)


class Reports:
    """The evidence of one conversation on one shadow."""

    def __init__(
        self,
        stream: Stream,
        ask: AskEvidence,
        message: Callable[[push_pb2.Evidence], push_pb2.AgentMessage] = of_candidate,
    ) -> None:
        self._stream = stream
        self._ask = ask
        self._message = message
        self._pace = Pace()

    async def run(self, *, after: asyncio.Event | None = None) -> None:
        """Report for ever, once `after` has happened."""
        if after is not None:
            await after.wait()
        while True:
            await self._report(is_urgent=False)
            await asyncio.sleep(LOOK_SECONDS)

    async def now(self) -> None:
        """Report what changed before anything else is said: an answer comes after what led to it."""
        await self._report(is_urgent=True)

    async def _report(self, *, is_urgent: bool) -> None:
        evidence = await self._ask()
        if evidence is None:
            return
        changed = evidence != self._pace.last
        if (is_urgent and changed) or self._pace.is_due(evidence, now=time.monotonic()):
            message = self._message(encode_evidence(evidence))
            await self._stream.say(message)
            self._pace.sent(evidence, message.ByteSize(), now=time.monotonic())
