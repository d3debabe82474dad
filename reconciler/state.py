"""What the reconciler remembers: publications, judged revisions, agents, conditions.

One SQLite database in the state directory. SQLite and not loose files because one publication is
many blobs and a rollout phase that must appear together or not at all, and because its
write-ahead log survives a kill at any instruction; `tidegate status` reads it while the reconciler
runs, or after it died.

Holds always:
1. A publication and the phase that announces it are saved in one transaction.
2. Nothing is announced that was not saved (synchronous=FULL).
3. A damaged database is never half-used: opening it raises StalledError.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from netpolicy.errors import Diagnostic, Place, Severity, StalledError, TransientError
from netpolicy.status import Condition, ConditionType, Reason
from reconciler.rollout.machine import Phase, Rollout
from reconciler.sign import Publication

SCHEMA_VERSION: Final = 1
KEPT_PUBLICATIONS: Final = 20
KEPT_JUDGEMENTS: Final = 200

_SCHEMA: Final = """
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
CREATE TABLE rollout (
    revision TEXT PRIMARY KEY, phase TEXT NOT NULL, since REAL NOT NULL, sequence INTEGER NOT NULL
);
CREATE TABLE agent (
    node TEXT PRIMARY KEY, connected INTEGER NOT NULL, sequence INTEGER NOT NULL,
    digest TEXT NOT NULL, generation_digest TEXT NOT NULL, error TEXT NOT NULL, changed_at REAL NOT NULL
);
CREATE TABLE condition (
    type TEXT PRIMARY KEY, status INTEGER NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
    since REAL NOT NULL
);
CREATE TABLE acknowledgement (revision TEXT PRIMARY KEY, by TEXT NOT NULL, at REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What validation said of one revision; `summary` is the commit's subject line."""

    revision: str
    accepted: bool
    summary: str
    diagnostics: tuple[Diagnostic, ...]
    judged_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """The last word of one node's agent. `error` is empty when it enforces `sequence`."""

    node: str
    connected: bool = False
    sequence: int = 0
    digest: str = ""
    generation_digest: str = ""
    error: str = ""
    changed_at: float = 0.0


class State:
    """The database. One writer (the reconciler); readers may open it beside."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, directory: Path) -> State:
        """Open or create the database in a directory.

        Raises StalledError (StorageOperationFailed) if it is damaged, of an unknown version, or
        cannot be written.
        """
        path = directory / "state.db"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            db = _connect(f"file:{path}?mode=rwc")
            with _storage_faults(path):
                db.execute("PRAGMA journal_mode = WAL")
                _check_whole(db, path)
                _migrate(db, path)
        except OSError as error:
            raise _storage_stalled(path, str(error)) from error
        return cls(db)

    @classmethod
    def open_read_only(cls, directory: Path) -> State:
        """Open the database for reading; raises StalledError if there is none."""
        path = directory / "state.db"
        if not path.is_file():
            raise StalledError(f"{path}: no reconciler has run here", reason=Reason.STORAGE_FAILED)
        with _storage_faults(path):
            return cls(_connect(f"file:{path}?mode=ro"))

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # -- publications ---------------------------------------------------------------------------

    def save_publication(self, publication: Publication, rollout: Rollout, *, now: float) -> None:
        """Store a publication and its rollout's phase, both or neither."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO publication VALUES (?, ?, ?, ?)",
                (publication.sequence, publication.revision, publication.digest, now),
            )
            db.executemany(
                "INSERT OR IGNORE INTO unit VALUES (?, ?)", list(publication.units.items())
            )
            db.executemany(
                "INSERT OR REPLACE INTO publication_unit VALUES (?, ?)",
                [(publication.sequence, digest) for digest in publication.units],
            )
            _replace_metadata(db, publication)
            _put_rollout(db, rollout)
            _forget_old_publications(db, publication.sequence)

    def save_metadata(self, publication: Publication) -> None:
        """Store freshly signed metadata of a publication that is already here."""
        with self._transaction() as db:
            _replace_metadata(db, publication)

    def last_publication(self) -> Publication | None:
        """The newest publication, whole, or None before the first."""
        row = self._db.execute(
            "SELECT sequence, revision, digest FROM publication ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        sequence, revision, digest = row
        metadata = self._db.execute(
            "SELECT name, data FROM publication_metadata WHERE sequence = ?", (sequence,)
        ).fetchall()
        units = self._db.execute(
            "SELECT digest, data FROM publication_unit JOIN unit USING (digest) WHERE sequence = ?",
            (sequence,),
        ).fetchall()
        return Publication(
            sequence=sequence,
            revision=revision,
            digest=digest,
            metadata=dict(metadata),
            units=dict(units),
        )

    # -- judgements and rollouts ----------------------------------------------------------------

    def save_judgement(self, judgement: Judgement, rollout: Rollout) -> None:
        """Store what validation said, with the phase it led to."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO judgement VALUES (?, ?, ?, ?, ?)",
                (
                    judgement.revision,
                    judgement.accepted,
                    judgement.summary,
                    json.dumps([asdict(d) for d in judgement.diagnostics]),
                    judgement.judged_at,
                ),
            )
            _put_rollout(db, rollout)
            db.execute(
                "DELETE FROM judgement WHERE revision NOT IN"
                " (SELECT revision FROM judgement ORDER BY judged_at DESC LIMIT ?)",
                (KEPT_JUDGEMENTS,),
            )

    def judgement(self, revision: str) -> Judgement | None:
        """What validation said of a revision, if it is remembered."""
        row = self._db.execute("SELECT * FROM judgement WHERE revision = ?", (revision,)).fetchone()
        return _judgement(row) if row else None

    def last_judgement(self) -> Judgement | None:
        """The newest judgement."""
        row = self._db.execute("SELECT * FROM judgement ORDER BY judged_at DESC LIMIT 1").fetchone()
        return _judgement(row) if row else None

    def save_rollout(self, rollout: Rollout) -> None:
        """Store a rollout's phase before its commands run."""
        with self._transaction() as db:
            _put_rollout(db, rollout)

    def rollout(self, revision: str) -> Rollout | None:
        """The rollout of a revision."""
        row = self._db.execute("SELECT * FROM rollout WHERE revision = ?", (revision,)).fetchone()
        if row is None:
            return None
        return Rollout(revision=row[0], phase=Phase(row[1]), since=row[2], sequence=row[3])

    def acknowledge(self, revision: str, *, by: str, now: float) -> None:
        """Record that an operator accepts a rewritten history that ends at this commit."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO acknowledgement VALUES (?, ?, ?)", (revision, by, now)
            )

    def is_acknowledged(self, revision: str) -> bool:
        """True if an operator accepted the rewritten history that ends at this commit."""
        query = "SELECT 1 FROM acknowledgement WHERE revision = ?"
        return self._db.execute(query, (revision,)).fetchone() is not None

    # -- agents and conditions ------------------------------------------------------------------

    def save_agent(self, record: AgentRecord) -> None:
        """Store the last word of an agent."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO agent VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    record.node,
                    record.connected,
                    record.sequence,
                    record.digest,
                    record.generation_digest,
                    record.error,
                    record.changed_at,
                ),
            )

    def disconnect_agents(self) -> None:
        """Mark every agent as not connected: at start, nobody is yet."""
        with self._transaction() as db:
            db.execute("UPDATE agent SET connected = 0")

    def agents(self) -> tuple[AgentRecord, ...]:
        """The last word of every agent, by node."""
        rows = self._db.execute("SELECT * FROM agent ORDER BY node").fetchall()
        return tuple(
            AgentRecord(
                node=row[0],
                connected=bool(row[1]),
                sequence=row[2],
                digest=row[3],
                generation_digest=row[4],
                error=row[5],
                changed_at=row[6],
            )
            for row in rows
        )

    def save_conditions(self, conditions: Sequence[Condition]) -> None:
        """Replace all conditions."""
        with self._transaction() as db:
            db.execute("DELETE FROM condition")
            db.executemany(
                "INSERT INTO condition VALUES (?, ?, ?, ?, ?)",
                [(c.type, c.status, c.reason, c.message, c.since) for c in conditions],
            )

    def conditions(self) -> tuple[Condition, ...]:
        """All conditions, Ready first."""
        rows = self._db.execute("SELECT * FROM condition ORDER BY type").fetchall()
        return tuple(
            Condition(
                type=ConditionType(row[0]),
                status=bool(row[1]),
                reason=row[2],
                message=row[3],
                since=row[4],
            )
            for row in rows
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
        except sqlite3.DatabaseError as error:
            # A full disk heals; the transaction is rolled back and nothing was announced.
            raise TransientError(f"state database: {error}") from error


def _connect(uri: str) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA synchronous = FULL")
    return db


@contextmanager
def _storage_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _storage_stalled(path, str(error)) from error


def _storage_stalled(path: Path, why: str) -> StalledError:
    return StalledError(
        f"{path}: {why}. Agents keep enforcing what they have. Move the file aside and start"
        " again: publications continue above what the agents hold.",
        reason=Reason.STORAGE_FAILED,
    )


def _check_whole(db: sqlite3.Connection, path: Path) -> None:
    answer = db.execute("PRAGMA quick_check").fetchone()[0]
    if answer != "ok":
        raise _storage_stalled(path, f"damaged: {answer}")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version != 0:
        raise _storage_stalled(path, f"schema version {version} is not {SCHEMA_VERSION}")
    db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _replace_metadata(db: sqlite3.Connection, publication: Publication) -> None:
    db.execute("DELETE FROM publication_metadata WHERE sequence = ?", (publication.sequence,))
    db.executemany(
        "INSERT INTO publication_metadata VALUES (?, ?, ?)",
        [(publication.sequence, name, data) for name, data in publication.metadata.items()],
    )


def _put_rollout(db: sqlite3.Connection, rollout: Rollout) -> None:
    db.execute(
        "INSERT OR REPLACE INTO rollout VALUES (?, ?, ?, ?)",
        (rollout.revision, rollout.phase, rollout.since, rollout.sequence),
    )


def _forget_old_publications(db: sqlite3.Connection, newest: int) -> None:
    oldest_kept = "SELECT sequence FROM publication ORDER BY sequence DESC LIMIT ?"
    db.execute(
        f"DELETE FROM publication WHERE sequence NOT IN ({oldest_kept}) AND sequence < ?",  # noqa: S608
        (KEPT_PUBLICATIONS, newest),
    )
    db.execute("DELETE FROM unit WHERE digest NOT IN (SELECT digest FROM publication_unit)")


def _judgement(row: Sequence[object]) -> Judgement:
    revision, accepted, summary, diagnostics, judged_at = row
    return Judgement(
        revision=str(revision),
        accepted=bool(accepted),
        summary=str(summary),
        diagnostics=tuple(_diagnostic(item) for item in json.loads(str(diagnostics))),
        judged_at=float(str(judged_at)),
    )


def _diagnostic(item: dict[str, object]) -> Diagnostic:
    fields = dict(item)
    place = fields.pop("place")
    severity = Severity(str(fields.pop("severity")))
    return Diagnostic(severity=severity, place=Place(**place), **fields)  # type: ignore[arg-type]
