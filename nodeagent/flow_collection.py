"""Keep the conntrack maps free of flows that are over.

In:   a datapath, word that an endpoint went
Out:  sweeps of its maps; the ends of flows that fell silent; how many flows there are, and what went
Shell. One slice at a time, in a thread: neither packets nor the agent's other tasks wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final
from typing import Protocol as Shape

import structlog

from nodeagent.datapath import DatapathError
from nodeagent.datapath.collector import Collected

log = structlog.get_logger()

FLOWS_COLLECTED: Final = "flows_collected"
COLLECTION_FAILED: Final = "flow_collection_failed"
SWEEP_SECONDS: Final = 60.0


class CollectableDatapath(Shape):
    """What the collection asks of a datapath."""

    def collect_flows(self) -> Iterator[Collected]:
        """Remove flows that are over, a slice each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionStatus:
    """`flows`: held at the last whole sweep. The sums count since the agent started."""

    flows: int = 0
    expired: int = 0
    orphaned: int = 0
    swept_at: float = 0.0
    error: str = ""


class FlowCollection:
    """Sweeps once a minute, and at once when an endpoint went."""

    def __init__(
        self,
        datapath: CollectableDatapath,
        gone: asyncio.Event,
        tell: Callable[[bytes], object],
        *,
        seconds: float = SWEEP_SECONDS,
    ) -> None:
        self._datapath = datapath
        self._tell = tell
        self._gone = gone
        self._seconds = seconds
        self.status = CollectionStatus()

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            self._gone.clear()
            try:
                await self._sweep()
            except DatapathError as error:
                self.status = replace(self.status, error=str(error))
                log.error(COLLECTION_FAILED, error=str(error))
            try:
                await asyncio.wait_for(self._gone.wait(), self._seconds)
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        examined = expired = orphaned = 0
        slices = self._datapath.collect_flows()
        while (done := await asyncio.to_thread(next, slices, None)) is not None:
            examined += done.examined
            expired += done.expired
            orphaned += done.orphaned
            self._tell(done.endings)
        self.status = CollectionStatus(
            flows=examined - expired - orphaned,
            expired=self.status.expired + expired,
            orphaned=self.status.orphaned + orphaned,
            swept_at=time.time(),
        )
        if orphaned:
            log.info(FLOWS_COLLECTED, expired=expired, orphaned=orphaned, kept=self.status.flows)
