"""Name what would change: go through observed flows by the workloads that they go to.

In:   an Observed, a Comparison of it; which share of those workloads
Out:  Replayed
Pure.

Flows to one workload are gone through together, so that its rows are complete before the next one's begin,
and only the worst rows are ever held.

Holds always:
1. Shares have no row in common; together they have all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from pyroaring import BitMap

from netpolicy.evaluate import Decision
from netpolicy.http_flow import form_of
from netpolicy.l7 import DnsQuery, HttpRequest, Request
from netpolicy.rules import RuleId
from reconciler.preview.compare import Comparison
from reconciler.preview.observed import NO_REQUEST, Observed, Served, Tuple
from reconciler.preview.rows import MAX_ROWS, Kind, Replayed, RowKey


class _Row(NamedTuple):
    """In the order of rows: the worst is the least. `example` is one of its flows."""

    minus_seen: int
    source: str
    destination: str
    port: str
    request: str
    example: Tuple


class _Worst:
    """The worst rows of one kind; of others how often their flows were seen."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._last: _Row | None = None
        self.omitted = 0

    def add(self, row: _Row) -> None:
        if self._last is not None and row > self._last:
            self.omitted -= row.minus_seen
            return
        self._rows.append(row)
        if len(self._rows) >= 2 * MAX_ROWS:
            self.rows()

    def rows(self) -> list[_Row]:
        """In order, no more than are kept."""
        self._rows.sort()
        self.omitted -= sum(row.minus_seen for row in self._rows[MAX_ROWS:])
        del self._rows[MAX_ROWS:]
        if len(self._rows) == MAX_ROWS:
            self._last = self._rows[-1]
        return self._rows


_Label = tuple[Kind, str, int, str]
"""What tells apart the rows of one workload: the source's name, the port's number, the request."""


class Replay:
    """Observed flows by the workloads that they go to."""

    def __init__(self, observed: Observed, comparison: Comparison) -> None:
        self._observed, self._comparison = observed, comparison
        self._names = [seen.name for seen in observed.ends]
        self._served: defaultdict[str, list[Served]] = defaultdict(list)
        self._asked: defaultdict[str, list[tuple[Tuple, int]]] = defaultdict(list)
        for served in observed.sources:
            self._served[self._names[served[0]]].append(served)
        for one, count in observed.asked.items():
            self._asked[self._names[one.destination]].append((one, count))

    def share(self, number: int, of: int) -> Replayed:
        """What would change for each `of`-th workload."""
        worst = {kind: _Worst() for kind in Kind}
        for name in sorted({*self._served, *self._asked})[number::of]:
            self._add_rows(name, worst)
        seen: Counter[RowKey] = Counter()
        by: dict[RowKey, str] = {}
        for kind, rows in worst.items():
            for row in rows.rows():
                key = RowKey(
                    kind=kind,
                    source=row.source,
                    destination=row.destination,
                    port=row.port,
                    request=row.request,
                )
                seen[key] = -row.minus_seen
                by[key] = _by(self._comparison, self._observed, kind, row.example)
        omitted = Counter({kind: rows.omitted for kind, rows in worst.items()})
        return Replayed(seen=seen, by=by, omitted=omitted)

    def _add_rows(self, name: str, worst: dict[Kind, _Worst]) -> None:
        """All rows of one workload that is asked."""
        counts: Counter[_Label] = Counter()
        examples: dict[_Label, Tuple] = {}
        for label, count, example in self._changes_of(name):
            counts[label] += count
            examples.setdefault(label, example)
        ports = self._observed.ports
        for label, count in counts.items():
            kind, source, number, request = label
            port = f"{ports[number][0].word}/{ports[number][1]}"
            worst[kind].add(_Row(-count, source, name, port, request, examples[label]))

    def _changes_of(self, name: str) -> Iterator[tuple[_Label, int, Tuple]]:
        for served in self._served.get(name, ()):
            changed = self._comparison.changed(served, self._observed.sources[served])
            for kind, sources in ((Kind.CUT, changed.cut), (Kind.OPENED, changed.opened)):
                yield from self._by_source(kind, served, sources)
        for one, count in self._asked.get(name, ()):
            before, after = self._comparison.verdicts(one)
            if before != after:
                kind = Kind.CUT if before else Kind.OPENED
                request = _text(self._observed.requests[one.request])
                yield (kind, self._names[one.source], one.port, request), count, one

    def _by_source(
        self, kind: Kind, served: Served, changed: BitMap
    ) -> Iterator[tuple[_Label, int, Tuple]]:
        """The changed flows to one port of an end, by the names of who sent them."""
        if not changed:
            return
        destination, number = served
        sources = [one for one in self._observed.sources[served] if one in changed]
        names = list(map(self._names.__getitem__, sources))
        examples = dict(zip(names, sources, strict=True))
        for name, count in Counter(names).items():
            example = Tuple(examples[name], destination, number, NO_REQUEST)
            yield (kind, name, number, ""), count, example


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
