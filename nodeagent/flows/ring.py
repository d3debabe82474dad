"""The last flows of this node, and those who follow them.

In:   FlowRecords, one by one
Out:  the kept ones, oldest first; a queue for each follower
One event loop only. Nothing here waits for a slow reader.

Holds always:
1. At most `capacity` flows are kept, and at most `FOLLOWER_BACKLOG` wait for a follower.
2. A flow that a follower was too slow for is counted, exactly, and reported in its place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from netpolicy.flow import FlowRecord

DEFAULT_CAPACITY: Final = 4096
FOLLOWER_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Lost:
    """So many flows were lost here, between the one before and the one after."""

    count: int


class Follower:
    """One reader's bounded queue: flows, and where some are missing, how many."""

    __slots__ = ("_arrived", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[FlowRecord | Lost] = deque()
        self._arrived = asyncio.Event()

    def offer(self, flow: FlowRecord) -> None:
        """Queue a flow; if the queue is full count it in its place."""
        if len(self._waiting) < FOLLOWER_BACKLOG:
            self._waiting.append(flow)
        elif isinstance(last := self._waiting[-1], Lost):
            self._waiting[-1] = Lost(last.count + 1)
        else:
            self._waiting.append(Lost(1))
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[FlowRecord | Lost]:
        """Every flow since the follower began, in order."""
        while True:
            await self._arrived.wait()
            while self._waiting:
                yield self._waiting.popleft()
            self._arrived.clear()


class FlowRing:
    """Keeps the last flows and hands new ones to followers."""

    __slots__ = ("_followers", "_kept", "seen")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._kept: deque[FlowRecord] = deque(maxlen=capacity)
        self._followers: set[Follower] = set()
        self.seen = 0

    def add(self, flow: FlowRecord) -> None:
        """Keep a flow, forgetting the oldest if full, and offer it to all followers."""
        self.seen += 1
        self._kept.append(flow)
        for follower in self._followers:
            follower.offer(flow)

    def kept(self) -> tuple[FlowRecord, ...]:
        """The flows that are kept, oldest first."""
        return tuple(self._kept)

    @contextmanager
    def follow(self) -> Iterator[Follower]:
        """A follower of every flow from now on."""
        follower = Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)
