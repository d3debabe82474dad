"""The reconciler's state: what is saved is whole, whatever kills it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from netpolicy.errors import Diagnostic, Place, Severity, StalledError, TransientError
from reconciler.publication import Publication
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state import fleet, judgements, publications
from reconciler.state.database import STATE_IS_NEW, Database
from reconciler.state.rollouts import Change, Entry, RolloutStore, Sighting, rollout_of
from tests.support.rollout_scene import cut


def a_publication(sequence: int) -> Publication:
    digest = f"{sequence:064x}"
    return Publication(
        sequence=sequence,
        revision=f"{sequence:040x}",
        digest=digest,
        metadata={"timestamp.json": b"t%d" % sequence, f"{sequence}.targets.json": b"x" * 3000},
        units={digest: b"unit" * 1000},
    )


def a_rollout(sequence: int) -> Rollout:
    return Rollout(revision=f"{sequence:040x}", phase=Phase.PUBLISHED, sequence=sequence)


def save(database: Database, sequence: int) -> None:
    change = Change(rollouts=(a_rollout(sequence),), publication=a_publication(sequence))
    RolloutStore(database).save(change)


def test_a_publication_comes_back_whole_after_reopening(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    assert publications.last_publication(database) is None
    for sequence in (1, 2):
        save(database, sequence)
    database.close()
    again = Database.open(tmp_path)
    assert publications.last_publication(again) == a_publication(2)
    assert rollout_of(again, f"{2:040x}") == a_rollout(2)


def test_old_publications_and_their_units_are_forgotten(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    for sequence in range(1, publications.KEPT_REVISIONS + 6):
        save(database, sequence)
    kept = publications.KEPT_REVISIONS
    assert database.rows("SELECT count(*) FROM publication") == [(kept,)]
    assert database.rows("SELECT count(*) FROM unit") == [(kept,)]


def test_a_judgement_keeps_its_diagnostics(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    fault = Diagnostic(
        code="TG104",
        severity=Severity.ERROR,
        place=Place(path="policies/a.yaml", line=3, column=5, length=2),
        message="m",
        excerpt="  ab",
        why="w",
        fix="f",
    )
    judgement = judgements.Judgement(
        revision="a" * 40, accepted=False, summary="s", diagnostics=(fault,), judged_at=5.0
    )
    judgements.save_judgement(database, judgement, Rollout(revision="a" * 40))
    assert judgements.last_judgement(database) == judgement


def test_agents_are_not_connected_until_they_say_so(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    fleet.save_agents(database, [fleet.AgentRecord(node="a", connected=True, sequence=3)])
    fleet.disconnect_agents(database)
    assert fleet.agents(database) == (fleet.AgentRecord(node="a", sequence=3),)


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_truncated_database_is_refused_with_a_way_out(tmp_path: Path, keep: float) -> None:
    database = Database.open(tmp_path)
    for sequence in range(1, 9):
        save(database, sequence)
    database.close()
    path = tmp_path / "state.db"
    os.truncate(path, int(path.stat().st_size * keep) + 100)
    with pytest.raises(StalledError, match="Move the file aside"):
        Database.open(tmp_path)


def test_a_state_that_begins_anew_is_said_once(tmp_path: Path) -> None:
    with capture_logs() as logs:
        Database.open(tmp_path).close()
        assert [log["event"] for log in logs] == [STATE_IS_NEW]
        Database.open(tmp_path).close()
        os.truncate(tmp_path / "state.db", 0)
        Database.open(tmp_path).close()
        assert [log["event"] for log in logs] == [STATE_IS_NEW] * 2


def test_a_locked_database_is_not_called_damaged(tmp_path: Path, monkeypatch) -> None:
    Database.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("PRAGMA user_version = 2")
        monkeypatch.setattr("reconciler.state.database.PATIENCE_SECONDS", 0.1)
        with pytest.raises(StalledError, match="need not be touched"):
            Database.open(tmp_path)


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    with database.transaction() as db:
        db.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StalledError, match="schema version 99"):
        Database.open(tmp_path)


def test_a_database_of_another_version_is_not_read_either(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    with database.transaction() as db:
        db.execute("PRAGMA user_version = 1")
    database.close()
    with pytest.raises(StalledError, match="schema version 1 is not"):
        Database.open_read_only(tmp_path)


VERSION_2 = """
CREATE TABLE publication (
    sequence INTEGER PRIMARY KEY, revision TEXT NOT NULL, digest TEXT NOT NULL, saved_at REAL NOT NULL
);
CREATE TABLE rollout (
    revision TEXT PRIMARY KEY, phase TEXT NOT NULL, since REAL NOT NULL, sequence INTEGER NOT NULL
);
INSERT INTO publication VALUES (7, 'aaaa', 'd', 1.0), (8, 'bbbb', 'e', 2.0);
INSERT INTO rollout VALUES ('aaaa', 'Superseded', 1.5, 7), ('bbbb', 'Promoted', 2.5, 8);
PRAGMA user_version = 2;
"""


def test_a_database_of_the_version_before_keeps_its_rollouts(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db")) as old:
        old.executescript(VERSION_2)
    store = RolloutStore(Database.open(tmp_path))
    promoted = Rollout(revision="bbbb", phase=Phase.PROMOTED, since=2.5, sequence=8)
    assert (store.current(), store.brought()) == (promoted, "bbbb")
    before = store.rollout_of("aaaa")
    assert before is not None
    assert before.phase is Phase.SUPERSEDED


def test_a_sighting_and_the_history_come_back_as_they_were(tmp_path: Path) -> None:
    store = RolloutStore(Database.open(tmp_path))
    sighting = Sighting(revision="aaaa", flows=3, unexpected=(cut(),), others=(cut(port=1),))
    store.save_sighting(sighting)
    assert store.sighting("aaaa") == sighting
    entries = tuple(Entry(at=float(n), revision="aaaa", event="E", phase="P") for n in range(3))
    store.save(Change(entries=entries, handled=("promote", "aaaa/1")))
    assert store.history(2) == entries[:0:-1]
    assert store.handled("promote") == "aaaa/1"


def test_the_last_publication_of_each_stable_revision_is_kept_for_going_back(
    tmp_path: Path,
) -> None:
    database = Database.open(tmp_path)
    store = RolloutStore(database)
    for sequence in range(1, 60):
        stages = replace(a_publication(sequence), revision=f"{sequence // 5:040x}")
        store.save(Change(rollouts=(a_rollout(sequence),), publication=stages))
    assert publications.revisions(database) == tuple(f"{n:040x}" for n in reversed(range(12)))
    kept = publications.publication_of(database, f"{3:040x}")
    assert kept is not None
    assert kept.sequence == 19


def test_after_the_clock_was_set_back_the_newest_judgement_is_still_the_last_one(
    tmp_path: Path,
) -> None:
    database = Database.open(tmp_path)
    count = judgements.KEPT_JUDGEMENTS + 1
    for number in range(count):
        judgement = judgements.Judgement(
            revision=f"{number:040x}",
            accepted=True,
            summary="",
            diagnostics=(),
            judged_at=float(count - number),
        )
        judgements.save_judgement(database, judgement, a_rollout(number))
        assert judgements.last_judgement(database) == judgement
    assert judgements.judgement_of(database, f"{0:040x}") is None


def test_a_full_disk_loses_nothing_and_heals(tmp_path: Path) -> None:
    database = Database.open(tmp_path)
    save(database, 1)
    # SQLite's own page limit fails writes as a full file system would.
    pages = database.rows("PRAGMA page_count")[0][0]
    database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(TransientError, match="full"):
        save(database, 2)
    assert publications.last_publication(database) == a_publication(1)
    database.rows("PRAGMA max_page_count = 1000000")
    save(database, 2)
    assert publications.last_publication(database) == a_publication(2)


WRITER = """
import sys
from pathlib import Path
from tests.unit.test_reconciler_state import save
from reconciler.state.database import Database
database = Database.open(Path(sys.argv[1]))
sequence = int(sys.argv[2])
while True:
    sequence += 1
    save(database, sequence)
    print(sequence, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_last_publication_whole(tmp_path: Path) -> None:
    saved = 0
    for extra in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(saved)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(3 + extra)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.wait()
        said = [int(line) for line in lines if line.strip().isdigit()]
        database = Database.open(tmp_path)
        last = publications.last_publication(database)
        database.close()
        assert last is not None
        # What was reported as saved is there; at most the one in flight is there too.
        assert said[-1] <= last.sequence <= said[-1] + 1
        assert last == a_publication(last.sequence)
        saved = last.sequence
