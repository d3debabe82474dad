"""What would change, as people read it: by workload, port and kind of request, the worst first.

In:   a Comparison and its Changes
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

from netpolicy.evaluate import Decision
from netpolicy.http_flow import form_of
from netpolicy.l7 import DnsQuery, HttpRequest, Request
from netpolicy.rules import RuleId
from reconciler.preview.compare import Changes, Comparison
from reconciler.preview.export import NO_REQUEST, Observed, Skipped, Tuple

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
        return sorted(found, key=lambda row: (-row[1], repr(row[0])))


def replayed(observed: Observed, comparison: Comparison, changes: Changes) -> Replayed:
    """Name what changes."""
    seen: Counter[RowKey] = Counter()
    examples: dict[RowKey, Tuple] = {}
    for kind, found in ((Kind.CUT, changes.cut), (Kind.OPENED, changes.opened)):
        for one, count in found.items():
            key = _key(kind, observed, one)
            seen[key] += count
            examples.setdefault(key, one)
    whole = Replayed(seen=seen, flows=changes.judged, skipped=observed.skipped)
    listed = _shortened(whole)
    by = {key: _by(comparison, observed, key.kind, examples[key]) for key in listed.seen}
    return replace(listed, by=by)


def total(parts: Iterable[Replayed]) -> Replayed:
    """Several parts of one export as one."""
    whole = Replayed()
    for part in parts:
        whole.by.update(part.by)
        whole = Replayed(
            seen=whole.seen + part.seen,
            by=whole.by,
            flows=whole.flows + part.flows,
            omitted=whole.omitted + part.omitted,
            skipped=whole.skipped + part.skipped,
        )
    return _shortened(whole)


def _shortened(whole: Replayed) -> Replayed:
    """At most MAX_ROWS of each kind; the others are counted."""
    seen: Counter[RowKey] = Counter()
    omitted = Counter(whole.omitted)
    for kind in Kind:
        rows = whole.rows(kind)
        seen.update(dict(rows[:MAX_ROWS]))
        omitted[kind] += sum(count for _, count in rows[MAX_ROWS:])
    return replace(whole, seen=seen, omitted=omitted)


def _key(kind: Kind, observed: Observed, one: Tuple) -> RowKey:
    protocol, port = observed.ports[one.port]
    return RowKey(
        kind=kind,
        source=observed.ends.seen[one.source].name,
        destination=observed.ends.seen[one.destination].name,
        port=f"{protocol.word}/{port}",
        request="" if one.request == NO_REQUEST else _text(observed.requests[one.request]),
    )


def _text(request: Request) -> str:
    match request:
        case HttpRequest():
            return str(form_of(request.method, request.path))
        case DnsQuery():
            return f"asks for {request.name}"
        case _:
            return ""


def _by(comparison: Comparison, observed: Observed, kind: Kind, one: Tuple) -> str:
    """The rules that cut it or, of what is opened, that let it pass."""
    before = comparison.before.decide(observed, one)
    after = comparison.after.decide(observed, one)
    if kind is Kind.CUT:
        found = _refusing(after)
    else:
        sides = ((before.egress, after.egress), (before.ingress, after.ingress))
        found = {rule for old, new in sides if not old.passes for rule in new.rules}
        if not found:
            return "no policy isolates it any more"
    return ", ".join(map(str, sorted(found)))


def _refusing(decision: Decision) -> set[RuleId]:
    sides = (decision.egress, decision.ingress)
    return {rule for side in sides if not side.passes for rule in side.rules}
