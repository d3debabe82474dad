"""The database file: opening, checking, transactions, schema.

In:   a directory
Out:  Database: reads, and transactions that happen whole or not at all
Shell over SQLite. SQLite and not loose files because one publication is many blobs and a rollout
phase that must appear together or not at all, and because its write-ahead log survives a kill at
any instruction; `tidegate status` reads it while the reconciler runs, or after it died.

Holds always:
1. A transaction is on disk before it returns (synchronous=FULL).
2. A damaged database is never half-used: opening it raises StalledError.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.status import Reason

log = structlog.get_logger()

PATIENCE_SECONDS: Final = 10.0
STATE_IS_NEW: Final = "state_is_new"
SCHEMA_VERSION: Final = 4

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_ROLLOUTS: Final = """
CREATE TABLE rollout (revision TEXT PRIMARY KEY, phase TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE standing (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, revision TEXT NOT NULL, event TEXT NOT NULL,
    phase TEXT NOT NULL, by TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE sighting (revision TEXT PRIMARY KEY, body BLOB NOT NULL);
"""

_NODE_ENCRYPTION: Final = """
CREATE TABLE node_encryption (
    node TEXT PRIMARY KEY, said BLOB NOT NULL, good BLOB NOT NULL, heard_at TEXT NOT NULL,
    refusal TEXT NOT NULL, changed_at REAL NOT NULL
);
"""

_SCHEMA: Final = f"""
{_ROLLOUTS}
{_NODE_ENCRYPTION}
CREATE TABLE publication (
    sequence INTEGER PRIMARY KEY, revision TEXT NOT NULL, digest TEXT NOT NULL, saved_at REAL NOT NULL
);
CREATE TABLE publication_metadata (
    sequence INTEGER NOT NULL REFERENCES publication ON DELETE CASCADE,
    name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (sequence, name)
);
CREATE TABLE unit (digest TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE publication_unit (
    sequence INTEGER NOT NULL REFERENCES publication ON DELETE CASCADE,
    digest TEXT NOT NULL REFERENCES unit, PRIMARY KEY (sequence, digest)
);
CREATE TABLE judgement (
    revision TEXT PRIMARY KEY, accepted INTEGER NOT NULL, summary TEXT NOT NULL,
    diagnostics TEXT NOT NULL, judged_at REAL NOT NULL
);
CREATE TABLE agent (
    node TEXT PRIMARY KEY, connected INTEGER NOT NULL, sequence INTEGER NOT NULL,
    digest TEXT NOT NULL, generation_digest TEXT NOT NULL, error TEXT NOT NULL, changed_at REAL NOT NULL,
    capabilities TEXT NOT NULL
);
CREATE TABLE condition (
    type TEXT PRIMARY KEY, status INTEGER NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE acknowledgement (revision TEXT PRIMARY KEY, by TEXT NOT NULL, at REAL NOT NULL);
"""

_MIGRATIONS: Final = {
    2: f"""
ALTER TABLE rollout RENAME TO rollout_2;
{_ROLLOUTS}
INSERT INTO rollout SELECT revision, phase, CAST(json_object(
    'revision', revision, 'phase', phase, 'since', since, 'sequence', sequence) AS BLOB) FROM rollout_2;
DROP TABLE rollout_2;
INSERT INTO standing SELECT 'current', revision FROM publication ORDER BY sequence DESC LIMIT 1;
INSERT INTO standing SELECT 'brought', revision FROM publication ORDER BY sequence DESC LIMIT 1;
""",  # noqa: S608  constants
    # Publications of version 3 say nothing of encryption, and no agent takes such. The revision that Git
    # has is signed anew, above them all.
    3: f"{_NODE_ENCRYPTION} DELETE FROM publication;",  # noqa: S608  constants
}
"""How a database of this version becomes one of the next; each in one transaction."""


class Database:
    """One connection. One writer (the reconciler); readers may open the file beside it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open or create the database in a directory.

        Raises StalledError (StorageOperationFailed) if it is damaged, of an unknown version, or
        cannot be written.
        """
        path = directory / "state.db"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _storage_stalled(path, str(error.strerror), is_damaged=False) from error
        with _storage_faults(path):
            db = _connect(f"file:{path}?mode=rwc")
            db.execute("PRAGMA journal_mode = WAL")
            _check_whole(db, path)
            _migrate(db, path)
        return cls(db)

    @classmethod
    def open_read_only(cls, directory: Path) -> Database:
        """Open the database for reading; raises StalledError if there is none of this version."""
        path = directory / "state.db"
        try:
            is_there = path.is_file()
        except OSError as error:
            raise _unreadable(path, str(error.strerror)) from error
        if not is_there:
            raise _unreadable(path, "no reconciler has run here")
        with _storage_faults(path):
            db = _connect(f"file:{path}?mode=ro")
            _check_version(db, path)
        return cls(db)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def rows(self, query: str, *values: object) -> list[Any]:
        """All rows that a query finds."""
        return self._db.execute(query, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run statements that all happen or none does.

        Raises TransientError if they cannot be stored (a full disk heals).
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield self._db
        except sqlite3.DatabaseError as error:
            raise TransientError(f"state database: {error}") from error


def _connect(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        uri, uri=True, timeout=PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = FULL")
    return db


@contextmanager
def _storage_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _storage_stalled(path, str(error), is_damaged=_is_damage(error)) from error


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """False for what leaves the file as good as it was: a disk that is full, locked, not writable."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or (code & 0xFF) in _DAMAGE


def _storage_stalled(path: Path, why: str, *, is_damaged: bool = True) -> StalledError:
    way_out = (
        "Move the file aside and start again: publications continue above what the agents hold."
        if is_damaged
        else "Mend that and start again; the file need not be touched."
    )
    return StalledError(
        f"{path}: {why}. Agents keep enforcing what they have. {way_out}",
        reason=Reason.STORAGE_FAILED,
    )


def _check_whole(db: sqlite3.Connection, path: Path) -> None:
    answer = db.execute("PRAGMA quick_check").fetchone()[0]
    if answer != "ok":
        raise _storage_stalled(path, f"damaged: {answer}")


def _unreadable(path: Path, why: str) -> StalledError:
    """For people who ask: where else the answer may be."""
    return StalledError(
        f"{path}: {why}. --state-dir names another folder; for a cluster ask"
        " `kubectl get policyrepositories,policyrollouts -A`, or `tidegate rollout status --kubernetes`",
        reason=Reason.STORAGE_FAILED,
    )


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise _storage_stalled(path, f"schema version {version} is not {SCHEMA_VERSION}")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        # After a loss this is the one trace of it: what was published before is not known any more.
        log.warning(STATE_IS_NEW, path=str(path))
        _become(db, _SCHEMA, SCHEMA_VERSION)
        return
    while version in _MIGRATIONS:
        _become(db, _MIGRATIONS[version], version + 1)
        version += 1
    _check_version(db, path)


def _become(db: sqlite3.Connection, script: str, version: int) -> None:
    db.executescript(f"BEGIN; {script} PRAGMA user_version = {version}; COMMIT;")
