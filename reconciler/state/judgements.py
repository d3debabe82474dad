"""Judgements: what validation said of each revision, and which rewritten histories are accepted.

Shell over the state database.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from netpolicy.errors import Diagnostic, Place, Severity
from reconciler.rollout.machine import Rollout
from reconciler.state.database import Database
from reconciler.state.rollouts import Entry, append_entries, put_rollout

KEPT_JUDGEMENTS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What validation said of one revision; `summary` is the commit's subject line."""

    revision: str
    accepted: bool
    summary: str
    diagnostics: tuple[Diagnostic, ...]
    judged_at: float


def save_judgement(
    database: Database, judgement: Judgement, rejected: Rollout | None = None
) -> None:
    """Store what validation said, with the rollout that ends here if it refuses the revision.

    The history has that once, however often the revision is judged.
    """
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
        if rejected is not None:
            known = db.execute(
                "SELECT phase FROM rollout WHERE revision = ?", (rejected.revision,)
            ).fetchone()
            if known is None or known[0] != rejected.phase:
                append_entries(db, (_refusal(judgement, rejected),))
            put_rollout(db, rejected)
        _forget_old_judgements(db)


def _refusal(judgement: Judgement, rejected: Rollout) -> Entry:
    errors = [one for one in judgement.diagnostics if one.severity is Severity.ERROR]
    first = f", the first {errors[0].place}: {errors[0].message}" if errors else ""
    return Entry(
        at=judgement.judged_at,
        revision=judgement.revision,
        event="Refused",
        phase=str(rejected.phase),
        reason=f"{len(errors)} errors{first}",
    )


def judgement_of(database: Database, revision: str) -> Judgement | None:
    """What validation said of a revision, if it is remembered."""
    rows = database.rows("SELECT * FROM judgement WHERE revision = ?", revision)
    return _judgement(rows[0]) if rows else None


def last_judgement(database: Database) -> Judgement | None:
    """The newest judgement: the last one saved, since clocks are set back at times."""
    rows = database.rows("SELECT * FROM judgement ORDER BY rowid DESC LIMIT 1")
    return _judgement(rows[0]) if rows else None


def acknowledge(database: Database, revision: str, *, by: str, now: float) -> None:
    """Record that an operator accepts a rewritten history that ends at this commit."""
    with database.transaction() as db:
        db.execute("INSERT OR REPLACE INTO acknowledgement VALUES (?, ?, ?)", (revision, by, now))


def is_acknowledged(database: Database, revision: str) -> bool:
    """True if an operator accepted the rewritten history that ends at this commit."""
    return bool(database.rows("SELECT 1 FROM acknowledgement WHERE revision = ?", revision))


def _forget_old_judgements(db: sqlite3.Connection) -> None:
    newest = "SELECT revision FROM judgement ORDER BY rowid DESC LIMIT ?"
    db.execute(
        f"DELETE FROM judgement WHERE revision NOT IN ({newest})",  # noqa: S608  constant
        (KEPT_JUDGEMENTS,),
    )
    # What can still be gone back to keeps its rollout, and with it the plan then in force.
    db.execute(
        "DELETE FROM rollout WHERE revision NOT IN (SELECT revision FROM judgement)"
        " AND revision NOT IN (SELECT revision FROM publication)"
        " AND revision NOT IN (SELECT value FROM standing)"
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
