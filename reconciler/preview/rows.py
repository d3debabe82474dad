"""What would change, as people read it: by workload, port and kind of request, the worst first.

In:   rows of parts that have none in common
Out:  Replayed: rows and sums, which can be added up
Pure.

Holds always:
1. Cut flows come before opened ones, the most often seen first.
2. What is not listed is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from reconciler.preview.observed import Skipped

MAX_ROWS: Final = 5_000
"""Rows that are kept of each kind; more flows than anybody reads."""


class Kind(StrEnum):
    """What becomes of a flow."""

    CUT = "cut"
    OPENED = "opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKey:
    """Flows that people do not tell apart."""

    kind: Kind
    source: str
    destination: str
    port: str
    request: str = ""

    @property
    def order(self) -> tuple[str, str, str, str]:
        """What decides between rows that were seen equally often."""
        return self.source, self.destination, self.port, self.request


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How often flows of each kind were seen, and by which rules that comes. `omitted`: seen, not listed."""

    seen: Counter[RowKey] = field(default_factory=Counter)
    by: dict[RowKey, str] = field(default_factory=dict)
    flows: int = 0
    omitted: Counter[Kind] = field(default_factory=Counter)
    skipped: Counter[Skipped] = field(default_factory=Counter)

    def total(self, kind: Kind) -> int:
        """How often such flows were seen, listed or not."""
        return self.omitted[kind] + sum(n for key, n in self.seen.items() if key.kind is kind)

    def rows(self, kind: Kind) -> list[tuple[RowKey, int]]:
        """The listed ones, the worst first."""
        found = [(key, count) for key, count in self.seen.items() if key.kind is kind]
        return sorted(found, key=lambda row: (-row[1], row[0].order))


def total(parts: Iterable[Replayed]) -> Replayed:
    """Shares that have no row in common as one."""
    seen: Counter[RowKey] = Counter()
    omitted: Counter[Kind] = Counter()
    by: dict[RowKey, str] = {}
    for part in parts:
        seen.update(part.seen)
        omitted.update(part.omitted)
        by |= part.by
    return _shortened(Replayed(seen=seen, by=by, omitted=omitted))


def _shortened(whole: Replayed) -> Replayed:
    """At most MAX_ROWS of each kind; the others are counted."""
    seen: Counter[RowKey] = Counter()
    omitted = Counter(whole.omitted)
    for kind in Kind:
        rows = whole.rows(kind)
        seen.update(dict(rows[:MAX_ROWS]))
        omitted[kind] += sum(count for _, count in rows[MAX_ROWS:])
    by = {key: whole.by[key] for key in seen}
    return replace(whole, seen=seen, by=by, omitted=omitted)
