"""Rollouts, who moved them and why, and what was seen of their candidates.

Shell over the state database.

Holds always:
1. A Change is one transaction: a phase, the publication that says so, the entry in the history and
   the request that asked for it appear together or not at all.
2. The rollout saved last is the current one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Final

import msgspec

from netpolicy.evidence import Difference
from netpolicy.labels import Label, Labels
from reconciler.publication import Publication
from reconciler.rollout.machine import Rollout
from reconciler.state.database import Database
from reconciler.state.publications import put_publication

KEPT_ENTRIES: Final = 2_000
KEPT_SIGHTINGS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the history. `by` is empty where nobody asked: time or evidence decided."""

    at: float
    revision: str
    event: str
    phase: str
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one step stores. `brought`: the commit that Git brought; `handled`: action and its value."""

    rollouts: tuple[Rollout, ...] = ()
    entries: tuple[Entry, ...] = ()
    publication: Publication | None = None
    brought: str = ""
    handled: tuple[str, str] | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """What policies of a revision would do where they are not enforced yet: `cut` flows, and `others`."""

    flows: int = 0
    pods: int = 0
    omitted: int = 0
    cut: tuple[Difference, ...] = ()
    others: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What was last seen of a revision, for people: the worst differences of the whole fleet.

    `nodes`: what each node does with it, in a word. `preview`: since it is enforced, what its policies of
    mode `dry-run` and `canary` would do; None: it has none.
    """

    revision: str
    nodes: Mapping[str, str] = field(default_factory=dict)
    flows: int = 0
    pods: int = 0
    omitted: int = 0
    answer: str = ""
    reasons: tuple[str, ...] = ()
    unexpected: tuple[Difference, ...] = ()
    others: tuple[Difference, ...] = ()
    preview: Previewed | None = None


class RolloutStore:
    """The rollouts of one state database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, change: Change) -> None:
        """Store all of it or nothing; raises TransientError if it could not be stored."""
        with self._database.transaction() as db:
            if change.publication is not None:
                put_publication(db, change.publication, now=change.at)
            for rollout in change.rollouts:
                put_rollout(db, rollout)
                _stand(db, "current", rollout.revision)
            if change.brought:
                _stand(db, "brought", change.brought)
            if change.handled is not None:
                _stand(db, f"handled {change.handled[0]}", change.handled[1])
            append_entries(db, change.entries)

    def current(self) -> Rollout | None:
        """The rollout that moved last."""
        revision = self._standing("current")
        return rollout_of(self._database, revision) if revision else None

    def rollout_of(self, revision: str) -> Rollout | None:
        """The rollout of a revision, if it is remembered."""
        return rollout_of(self._database, revision)

    def brought(self) -> str:
        """The last commit that Git brought into a rollout; empty before the first."""
        return self._standing("brought")

    def git_failing_since(self) -> float:
        """Since when Git has not answered, in seconds since the epoch; 0 while it does."""
        return float(self._standing("git failing since") or 0.0)

    def save_git_failing_since(self, since: float) -> None:
        """Store it; raises TransientError if it could not be stored."""
        with self._database.transaction() as db:
            _stand(db, "git failing since", repr(since))

    def pushed_revert(self) -> str:
        """The revision whose revert was pushed last; empty if none was."""
        return self._standing("revert pushed")

    def save_pushed_revert(self, revision: str) -> None:
        """Store it; raises TransientError if it could not be stored."""
        with self._database.transaction() as db:
            _stand(db, "revert pushed", revision)

    def handled(self, action: str) -> str:
        """The value of an action's request that was last handled; empty if none was."""
        return self._standing(f"handled {action}")

    def history(self, limit: int = KEPT_ENTRIES) -> tuple[Entry, ...]:
        """What happened, the newest first."""
        rows = self._database.rows(
            "SELECT at, revision, event, phase, by, reason FROM history ORDER BY id DESC LIMIT ?",
            limit,
        )
        names = ("at", "revision", "event", "phase", "by", "reason")
        return tuple(Entry(**dict(zip(names, row, strict=True))) for row in rows)

    def note(self, entry: Entry) -> None:
        """Add a line about a commit that stopped at the gate, unless its last line says the same."""
        rows = self._database.rows(
            "SELECT event, reason FROM history WHERE revision = ? ORDER BY id DESC LIMIT 1",
            entry.revision,
        )
        if rows and tuple(rows[0]) == (entry.event, entry.reason):
            return
        with self._database.transaction() as db:
            append_entries(db, (entry,))

    def steps_after(self, number: int) -> tuple[tuple[int, Entry], ...]:
        """The lines of the history behind that one, with their numbers, the oldest first."""
        rows = self._database.rows(
            "SELECT id, at, revision, event, phase, by, reason FROM history WHERE id > ? ORDER BY id",
            number,
        )
        names = ("at", "revision", "event", "phase", "by", "reason")
        return tuple((row[0], Entry(**dict(zip(names, row[1:], strict=True)))) for row in rows)

    def last_step(self) -> int:
        """The number of the newest line; 0 if there is none."""
        return int(self._database.rows("SELECT coalesce(max(id), 0) FROM history")[0][0])

    def told(self, target: str) -> int | None:
        """The number of the last line that somebody was told; None if it was never stored."""
        found = self._standing(f"told {target}")
        return int(found) if found else None

    def save_told(self, target: str, number: int) -> None:
        """Store it; raises TransientError if it could not be stored."""
        with self._database.transaction() as db:
            _stand(db, f"told {target}", str(number))

    def save_sighting(self, sighting: Sighting) -> None:
        """Store what was last seen of a candidate."""
        body = msgspec.json.encode(sighting, enc_hook=_encode_labels)
        with self._database.transaction() as db:
            db.execute("DELETE FROM sighting WHERE revision = ?", (sighting.revision,))
            db.execute("INSERT INTO sighting VALUES (?, ?)", (sighting.revision, body))
            db.execute(
                "DELETE FROM sighting WHERE rowid NOT IN"
                " (SELECT rowid FROM sighting ORDER BY rowid DESC LIMIT ?)",
                (KEPT_SIGHTINGS,),
            )

    def sighting(self, revision: str) -> Sighting | None:
        """What was last seen of a candidate, if it is remembered."""
        rows = self._database.rows("SELECT body FROM sighting WHERE revision = ?", revision)
        if not rows:
            return None
        return msgspec.json.decode(rows[0][0], type=Sighting, dec_hook=_decode_labels)

    def _standing(self, name: str) -> str:
        rows = self._database.rows("SELECT value FROM standing WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""


def rollout_of(database: Database, revision: str) -> Rollout | None:
    """The rollout of a revision, if it is remembered."""
    rows = database.rows("SELECT body FROM rollout WHERE revision = ?", revision)
    return msgspec.json.decode(rows[0][0], type=Rollout) if rows else None


def put_rollout(db: sqlite3.Connection, rollout: Rollout) -> None:
    """Store a rollout inside a transaction of the caller's."""
    db.execute(
        "INSERT OR REPLACE INTO rollout VALUES (?, ?, ?)",
        (rollout.revision, rollout.phase, msgspec.json.encode(rollout)),
    )


def _stand(db: sqlite3.Connection, name: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO standing VALUES (?, ?)", (name, value))


def append_entries(db: sqlite3.Connection, entries: tuple[Entry, ...]) -> None:
    """Add lines to the history inside a transaction of the caller's."""
    if not entries:
        return
    db.executemany(
        "INSERT INTO history (at, revision, event, phase, by, reason) VALUES (?, ?, ?, ?, ?, ?)",
        [astuple(entry) for entry in entries],
    )
    db.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (KEPT_ENTRIES,))


def _encode_labels(value: object) -> list[tuple[str, str, str]]:
    if isinstance(value, Labels):
        return [(label.source, label.key, label.value) for label in value]
    raise NotImplementedError(type(value))


def _decode_labels(kind: type, value: list[list[str]]) -> Labels:
    if kind is Labels:
        return Labels(Label(*parts) for parts in value)
    raise NotImplementedError(kind)
