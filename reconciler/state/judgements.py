"""Judgements: what validation said of each revision, and where its rollout is.

Shell over the state database.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from netpolicy.errors import Diagnostic, Place, Severity
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state.database import Database

KEPT_JUDGEMENTS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What validation said of one revision; `summary` is the commit's subject line."""

    revision: str
    accepted: bool
    summary: str
    diagnostics: tuple[Diagnostic, ...]
    judged_at: float


def save_judgement(database: Database, judgement: Judgement, rollout: Rollout) -> None:
    """Store what validation said, with the phase it led to."""
    diagnostics = json.dumps([asdict(diagnostic) for diagnostic in judgement.diagnostics])
    with database.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO judgement VALUES (?, ?, ?, ?, ?)",
            (
                judgement.revision,
                judgement.accepted,
                judgement.summary,
                diagnostics,
                judgement.judged_at,
            ),
        )
        put_rollout(db, rollout)
        _forget_old_judgements(db)


def judgement_of(database: Database, revision: str) -> Judgement | None:
    """What validation said of a revision, if it is remembered."""
    rows = database.rows("SELECT * FROM judgement WHERE revision = ?", revision)
    return _judgement(rows[0]) if rows else None


def last_judgement(database: Database) -> Judgement | None:
    """The newest judgement: the last one saved, since clocks are set back at times."""
    rows = database.rows("SELECT * FROM judgement ORDER BY rowid DESC LIMIT 1")
    return _judgement(rows[0]) if rows else None


def save_rollout(database: Database, rollout: Rollout) -> None:
    """Store a rollout's phase before its commands run."""
    with database.transaction() as db:
        put_rollout(db, rollout)


def put_rollout(db: sqlite3.Connection, rollout: Rollout) -> None:
    """Store a rollout's phase inside a transaction of the caller's."""
    db.execute(
        "INSERT OR REPLACE INTO rollout VALUES (?, ?, ?, ?)",
        (rollout.revision, rollout.phase, rollout.since, rollout.sequence),
    )


def rollout_of(database: Database, revision: str) -> Rollout | None:
    """The rollout of a revision, if it is remembered."""
    rows = database.rows("SELECT * FROM rollout WHERE revision = ?", revision)
    if not rows:
        return None
    revision, phase, since, sequence = rows[0]
    return Rollout(revision=revision, phase=Phase(phase), since=since, sequence=sequence)


def acknowledge(database: Database, revision: str, *, by: str, now: float) -> None:
    """Record that an operator accepts a rewritten history that ends at this commit."""
    with database.transaction() as db:
        db.execute("INSERT OR REPLACE INTO acknowledgement VALUES (?, ?, ?)", (revision, by, now))


def is_acknowledged(database: Database, revision: str) -> bool:
    """True if an operator accepted the rewritten history that ends at this commit."""
    return bool(database.rows("SELECT 1 FROM acknowledgement WHERE revision = ?", revision))


def _forget_old_judgements(db: sqlite3.Connection) -> None:
    newest = "(SELECT revision FROM judgement ORDER BY rowid DESC LIMIT ?)"
    for table in ("judgement", "rollout"):
        db.execute(
            f"DELETE FROM {table} WHERE revision NOT IN {newest}",  # noqa: S608  constants
            (KEPT_JUDGEMENTS,),
        )


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
