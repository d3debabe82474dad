"""Read the structured log of a program: one JSON object a line.

In:   a log file that grows
Out:  Event values
Shell over one file. Lines that are no JSON object are somebody's plain words: left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line: its name, when it was written (seconds since the epoch), its fields."""

    name: str
    at: float
    fields: Mapping[str, Any]

    def says(self, **expected: object) -> bool:
        """True if each of these fields has this value."""
        return all(self.fields.get(key) == value for key, value in expected.items())


def read_events(path: Path) -> list[Event]:
    """All events so far."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    return list(_events(text))


def _events(text: str) -> Iterator[Event]:
    for line in text[: text.rfind("\n") + 1].splitlines():
        if not line.startswith("{"):
            continue
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        yield Event(name=fields.get("event", ""), at=_time(fields), fields=fields)


def _time(fields: Mapping[str, Any]) -> float:
    text = fields.get("timestamp", "")
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
