"""The fleet's last words are saved together, outlive a crash but for the newest, and wait for a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.encryption.watch import EncryptionWatch
from reconciler.fleet_records import FleetRecords
from reconciler.fleet_watch import FleetWatch
from reconciler.push import Ack, Hello
from reconciler.state import fleet
from reconciler.state.database import Database
from reconciler.state.fleet import AgentRecord
from tests.support.beside import beside

NODES = frozenset(f"node-{number}" for number in range(300))
DIGEST = "d" * 64


class CountingDatabase(Database):
    """The real one; it says how many transactions it ran."""

    transactions = 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self.transactions += 1
        with super().transaction() as db:
            yield db


def watch_over(records: FleetRecords, database: Database) -> FleetWatch:
    encryption = EncryptionWatch(database, publish=lambda keys: None)
    return FleetWatch(
        records,
        encryption=encryption,
        changed=lambda: None,
        cannot_serve=lambda hello: hello.digest,
    )


async def until_saved(records: FleetRecords, database: Database, *, agents: int) -> None:
    """Run the records' task until the database has so many agents."""
    async with beside(records.run()), asyncio.timeout(10):
        while len(fleet.agents(database)) < agents:
            await asyncio.sleep(0.01)


def test_what_many_agents_say_at_once_is_one_transaction(tmp_path: Path) -> None:
    database = CountingDatabase.open(tmp_path)
    records = FleetRecords(database)
    watch = watch_over(records, database)
    database.transactions = 0
    for node in sorted(NODES):
        watch.agent_acked(
            node, Ack(sequence=4, digest=DIGEST, applied_at=0.0, generation_digest=DIGEST)
        )
    assert watch.enforce(NODES, 4)  # it is known before it is saved
    assert database.transactions == 0
    asyncio.run(until_saved(records, database, agents=len(NODES)))
    assert database.transactions == 1
    assert {record.node for record in fleet.agents(database)} == NODES


def test_what_a_crash_took_the_agents_say_again(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    records = FleetRecords(database)
    watch = watch_over(records, database)
    watch.agent_acked("a", Ack(sequence=4, digest=DIGEST, applied_at=0.0, generation_digest=DIGEST))
    assert records.save()
    watch.agent_acked("a", Ack(sequence=5, digest=DIGEST, applied_at=0.0, generation_digest=DIGEST))
    database.close()  # and nothing was saved of 5

    database = Database.open(tmp_path)
    after = watch_over(FleetRecords(database), database)
    assert after.enforce(frozenset({"a"}), 4)
    assert not after.enforce(frozenset({"a"}), 5)
    again = Hello(
        instance="i", agent_version="", capabilities=(), sequence=5, digest=DIGEST, version=0
    )
    after.agent_connected("a", again)
    assert after.enforce(frozenset({"a"}), 5)


def test_what_cannot_be_saved_is_saved_later(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    records = FleetRecords(database)
    records.put(AgentRecord(node="a", sequence=7))
    database.rows("PRAGMA query_only = 1")
    assert not records.save()
    database.rows("PRAGMA query_only = 0")
    assert records.last("a").sequence == 7
    assert records.save()
    assert [record.sequence for record in fleet.agents(database)] == [7]
