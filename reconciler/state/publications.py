"""Publications: every signed bundle of the recent past, whole.

Shell over the state database. A publication and the phase that announces it are saved in one
transaction (`rollouts.Change`), so nothing is announced that a restart would not know.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from reconciler.publication import Publication
from reconciler.state.database import Database

KEPT_REVISIONS: Final = 20
"""Stable revisions that can be gone back to while Git is away."""


def put_publication(db: sqlite3.Connection, publication: Publication, *, now: float) -> None:
    """Store a publication inside a transaction of the caller's."""
    db.execute(
        "INSERT OR REPLACE INTO publication VALUES (?, ?, ?, ?)",
        (publication.sequence, publication.revision, publication.digest, now),
    )
    db.executemany("INSERT OR IGNORE INTO unit VALUES (?, ?)", list(publication.units.items()))
    db.executemany(
        "INSERT OR REPLACE INTO publication_unit VALUES (?, ?)",
        [(publication.sequence, digest) for digest in publication.units],
    )
    _replace_metadata(db, publication)
    _forget_old_publications(db)


def save_metadata(database: Database, publication: Publication) -> None:
    """Store freshly signed metadata of a publication that is already here."""
    with database.transaction() as db:
        _replace_metadata(db, publication)


def last_publication(database: Database) -> Publication | None:
    """The newest publication, whole, or None before the first."""
    return _publication(database, "ORDER BY sequence DESC LIMIT 1")


def publication_of(database: Database, revision: str) -> Publication | None:
    """The newest publication whose stable channel was this revision, if it is kept."""
    return _publication(database, "WHERE revision = ? ORDER BY sequence DESC LIMIT 1", revision)


def revisions(database: Database) -> tuple[str, ...]:
    """Every revision that can be stable again, the newest first."""
    rows = database.rows(
        "SELECT revision FROM publication GROUP BY revision ORDER BY max(sequence)"
    )
    return tuple(str(revision) for (revision,) in reversed(rows))


def _publication(database: Database, which: str, *values: object) -> Publication | None:
    found = database.rows(
        f"SELECT sequence, revision, digest FROM publication {which}",  # noqa: S608  constants
        *values,
    )
    if not found:
        return None
    sequence, revision, digest = found[0]
    metadata = database.rows(
        "SELECT name, data FROM publication_metadata WHERE sequence = ?", sequence
    )
    units = database.rows(
        "SELECT digest, data FROM publication_unit JOIN unit USING (digest) WHERE sequence = ?",
        sequence,
    )
    return Publication(
        sequence=sequence,
        revision=revision,
        digest=digest,
        metadata=dict(metadata),
        units=dict(units),
    )


def _replace_metadata(db: sqlite3.Connection, publication: Publication) -> None:
    db.execute("DELETE FROM publication_metadata WHERE sequence = ?", (publication.sequence,))
    db.executemany(
        "INSERT INTO publication_metadata VALUES (?, ?, ?)",
        [(publication.sequence, name, data) for name, data in publication.metadata.items()],
    )


def _forget_old_publications(db: sqlite3.Connection) -> None:
    """Keep the newest publication of each of the last stable revisions: one rollout makes several."""
    db.execute(
        "DELETE FROM publication WHERE sequence NOT IN"
        " (SELECT max(sequence) FROM publication GROUP BY revision"
        "  ORDER BY max(sequence) DESC LIMIT ?)",
        (KEPT_REVISIONS,),
    )
    db.execute("DELETE FROM unit WHERE digest NOT IN (SELECT digest FROM publication_unit)")
