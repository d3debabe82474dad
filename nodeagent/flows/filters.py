"""Which flows a reader asked for.

In:   FlowFilter, FlowColumns
Out:  those that match
Pure. An empty field asks nothing; several values of one field are alternatives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netpolicy.flow import FlowEnd
from netpolicy.rules import Direction
from nodeagent.flows.columns import FlowColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFilter:
    """`pods` are `namespace/pod`, `namespace/` or `pod`, at either end; `ports` the destination's.

    `verdicts` and `directions` are Hubble's words in upper case.
    """

    verdicts: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    pods: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()

    def select(self, flows: FlowColumns) -> FlowColumns:
        """Those of which every field that asks something is met."""
        tests = tuple(self._tests(flows))
        if not tests:
            return flows
        return flows.select([all(met) for met in zip(*tests, strict=True)])

    def _tests(self, flows: FlowColumns) -> Iterator[Iterable[bool]]:
        """A column of answers for each field that asks."""
        rows = flows.rows
        if self.verdicts:
            yield (str(flows.verdict(row)) in self.verdicts for row in range(len(flows)))
        if self.directions:
            wanted = [Direction[name] for name in self.directions]
            yield (direction in wanted for direction in rows.direction)
        if self.ports:
            yield (port in self.ports for port in rows.destination_port)
        if self.pods:
            named = [self._names(end) for end in flows.ends]
            ends = zip(rows.source, rows.destination, strict=True)
            yield (named[source] or named[destination] for source, destination in ends)

    def _names(self, end: FlowEnd) -> bool:
        named = {end.pod, f"{end.namespace}/", f"{end.namespace}/{end.pod}"}
        return bool(end.pod) and not self.pods.isdisjoint(named)
