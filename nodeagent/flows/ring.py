"""The last flows of this node, and those who follow them.

In:   batches of flows, and counts of what the kernel had no room to tell
Out:  the kept ones, oldest first; a queue for each follower
One event loop only. Nothing here waits for a slow reader.

Holds always:
1. At most `capacity` flows are kept, but for the rest of the oldest batch; at most
   `FOLLOWER_BACKLOG` wait for a follower.
2. A flow that is not handed to a follower is counted, exactly, and the count stands in its place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nodeagent.flows.batch import FlowBatch
from nodeagent.flows.columns import FlowColumns
from nodeagent.flows.naming import Names

DEFAULT_CAPACITY: Final = 4096
FOLLOWER_BACKLOG: Final = 32_768


class LostAt(StrEnum):
    """Where flows were lost: the kernel had no room to tell them, a reader was too slow, or what the proxy
    told of requests did not come in."""

    KERNEL = "kernel"
    READER = "reader"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Lost:
    """So many flows were lost here, between the one before and the one after."""

    count: int
    at: LostAt


class Follower:
    """One reader's bounded queue: flows, and where some are missing, how many."""

    __slots__ = ("_arrived", "_waiting", "_waiting_flows")

    def __init__(self) -> None:
        self._waiting: deque[FlowBatch | Lost] = deque()
        self._waiting_flows = 0
        self._arrived = asyncio.Event()

    def offer(self, batch: FlowBatch) -> None:
        """Queue flows; if there is no room for all of them, count them in their place."""
        if self._waiting_flows + len(batch) > FOLLOWER_BACKLOG:
            self.miss(Lost(len(batch), LostAt.READER))
            return
        self._waiting.append(batch)
        self._waiting_flows += len(batch)
        self._arrived.set()

    def miss(self, lost: Lost) -> None:
        """Say that flows are missing here."""
        last = self._waiting[-1] if self._waiting else None
        if isinstance(last, Lost) and last.at is lost.at:
            self._waiting[-1] = Lost(last.count + lost.count, lost.at)
        else:
            self._waiting.append(lost)
        self._arrived.set()

    async def __aiter__(self) -> AsyncIterator[FlowBatch | Lost]:
        """Everything since the follower began, in order."""
        while True:
            await self._arrived.wait()
            while self._waiting:
                item = self._waiting.popleft()
                if isinstance(item, FlowBatch):
                    self._waiting_flows -= len(item)
                yield item
            self._arrived.clear()


class FlowRing:
    """Keeps the last flows and hands new ones to followers."""

    __slots__ = ("_capacity", "_followers", "_kept", "_kept_flows", "_names", "seen")

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._kept: deque[FlowBatch] = deque()
        self._kept_flows = 0
        self._names: Names | None = None
        self._followers: set[Follower] = set()
        self.seen = 0

    def add(self, batch: FlowBatch) -> None:
        """Keep flows, forgetting the oldest if full, and offer them to all followers."""
        self.seen += len(batch)
        self._settle_unless(batch.names)
        self._kept.append(batch)
        self._kept_flows += len(batch)
        while self._kept_flows - len(self._kept[0]) >= self._capacity:
            self._kept_flows -= len(self._kept.popleft())
        for follower in self._followers:
            follower.offer(batch)

    def lose(self, count: int, at: LostAt = LostAt.KERNEL) -> None:
        """Tell all followers that so many flows never came here."""
        for follower in self._followers:
            follower.miss(Lost(count, at))

    def kept(self) -> Iterator[FlowColumns]:
        """The last flows, at most `capacity`, oldest first."""
        surplus = self._kept_flows - self._capacity
        for batch in tuple(self._kept):
            yield batch.columns().last(len(batch) - surplus) if surplus > 0 else batch.columns()
            surplus = 0

    @contextmanager
    def follow(self) -> Iterator[Follower]:
        """A follower of every flow from now on."""
        follower = Follower()
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def _settle_unless(self, names: Names | None) -> None:
        """Name what arrived under other names: no more than one plan's names are kept alive."""
        if names is None or names is self._names:
            return
        self._names = names
        for batch in self._kept:
            batch.columns()
