"""Publications: every signed bundle of the recent past, whole.

Shell over the state database. A publication and the phase that announces it are saved in one
transaction, so nothing is announced that a restart would not know.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from reconciler.publication import Publication
from reconciler.rollout.machine import Rollout
from reconciler.state.database import Database
from reconciler.state.judgements import put_rollout

KEPT_PUBLICATIONS: Final = 20


def save_publication(
    database: Database, publication: Publication, rollout: Rollout, *, now: float
) -> None:
    """Store a publication and its rollout's phase, both or neither."""
    with database.transaction() as db:
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
        put_rollout(db, rollout)
        _forget_old_publications(db)


def save_metadata(database: Database, publication: Publication) -> None:
    """Store freshly signed metadata of a publication that is already here."""
    with database.transaction() as db:
        _replace_metadata(db, publication)


def last_publication(database: Database) -> Publication | None:
    """The newest publication, whole, or None before the first."""
    newest = database.rows(
        "SELECT sequence, revision, digest FROM publication ORDER BY sequence DESC LIMIT 1"
    )
    if not newest:
        return None
    sequence, revision, digest = newest[0]
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
    db.execute(
        "DELETE FROM publication WHERE sequence NOT IN"
        " (SELECT sequence FROM publication ORDER BY sequence DESC LIMIT ?)",
        (KEPT_PUBLICATIONS,),
    )
    db.execute("DELETE FROM unit WHERE digest NOT IN (SELECT digest FROM publication_unit)")
