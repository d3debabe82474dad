"""The last word of each agent: in memory at once, in the state database a moment later.

In:   AgentRecord values
Out:  rows of the state database
Shell over the state database.

A thousand agents answer one publication within a second. A transaction for each would keep the loop that
serves them waiting for the disk; so what came within SAVE_SECONDS is one.

Holds always:
1. Whatever decides something reads memory, which is never behind what was heard.
2. A crash loses at most what was heard within SAVE_SECONDS, as if the agents had not said it yet: they say it
   again when they connect.
3. A record that cannot be saved stays to be saved: a full disk fails no agent.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

import structlog

from netpolicy.errors import TransientError
from reconciler.state import fleet
from reconciler.state.database import Database
from reconciler.state.fleet import AgentRecord

log = structlog.get_logger()

SAVE_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 1.0


class FleetRecords:
    """Who was ever heard of, and what they said last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        fleet.disconnect_agents(database)
        self._by_node = {record.node: record for record in fleet.agents(database)}
        self._unsaved: set[str] = set()
        self._came = asyncio.Event()
        self._fault = ""

    def all(self) -> tuple[AgentRecord, ...]:
        """Every record, by node."""
        return tuple(self._by_node[node] for node in sorted(self._by_node))

    def last(self, node: str) -> AgentRecord:
        """What a node said last; of one never heard, an empty record."""
        return self._by_node.get(node, AgentRecord(node=node))

    def put(self, record: AgentRecord) -> AgentRecord:
        """Remember it, dated now; it is saved with what comes beside it."""
        dated = replace(record, changed_at=time.time())
        self._by_node[record.node] = dated
        self._unsaved.add(record.node)
        self._came.set()
        return dated

    def save(self) -> bool:
        """Save what is not saved yet, all or nothing of it; False if that failed."""
        if not self._unsaved:
            return True
        try:
            fleet.save_agents(self._database, [self._by_node[node] for node in self._unsaved])
        except TransientError as error:
            if str(error) != self._fault:
                log.error("agents_not_saved", agents=len(self._unsaved), error=str(error))
            self._fault = str(error)
            return False
        self._unsaved.clear()
        self._fault = ""
        return True

    async def run(self) -> None:
        """Save until cancelled, and once more then."""
        try:
            while True:
                await self._came.wait()
                self._came.clear()
                await asyncio.sleep(SAVE_SECONDS)
                while not self.save():
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self.save()
