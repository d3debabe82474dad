"""The fleet's last words, and what the reconciler says of itself.

Shell over the state database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from netpolicy.status import Condition, ConditionType
from reconciler.state.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """The last word of one node's agent. `error` is empty when it enforces `sequence`.

    `capabilities`: what it says it can enforce, words parted by spaces.
    """

    node: str
    connected: bool = False
    sequence: int = 0
    digest: str = ""
    generation_digest: str = ""
    error: str = ""
    changed_at: float = 0.0
    capabilities: str = ""


def save_agents(database: Database, records: Sequence[AgentRecord]) -> None:
    """Store the last words of some agents, all or nothing of them."""
    with database.transaction() as db:
        db.executemany(
            "INSERT OR REPLACE INTO agent VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [astuple(record) for record in records],
        )


def disconnect_agents(database: Database) -> None:
    """Mark every agent as not connected: at start, nobody is yet."""
    with database.transaction() as db:
        db.execute("UPDATE agent SET connected = 0")


def agents(database: Database) -> tuple[AgentRecord, ...]:
    """The last word of every agent, by node."""
    rows = database.rows("SELECT * FROM agent ORDER BY node")
    names = [field.name for field in fields(AgentRecord)]
    found = (dict(zip(names, row, strict=True)) for row in rows)
    return tuple(AgentRecord(**(row | {"connected": bool(row["connected"])})) for row in found)


def save_conditions(database: Database, conditions: Sequence[Condition]) -> None:
    """Replace all conditions."""
    with database.transaction() as db:
        db.execute("DELETE FROM condition")
        db.executemany(
            "INSERT INTO condition VALUES (?, ?, ?, ?, ?)",
            [astuple(condition) for condition in conditions],
        )


def conditions(database: Database) -> tuple[Condition, ...]:
    """All conditions, by type: Ready first."""
    return tuple(
        Condition(
            type=ConditionType(kind),
            status=bool(status),
            reason=reason,
            message=message,
            since=since,
        )
        for kind, status, reason, message, since in database.rows(
            "SELECT * FROM condition ORDER BY type"
        )
    )
