"""Which flows a reader asked for.

In:   FlowFilter, FlowRecord
Out:  does it match
Pure. An empty field asks nothing; several values of one field are alternatives.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpolicy.flow import FlowEnd, FlowRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowFilter:
    """`pods` are `namespace/pod`, `namespace/` or `pod`, at either end; `ports` the destination's.

    `verdicts` and `directions` are Hubble's words in upper case.
    """

    verdicts: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    pods: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()

    def matches(self, flow: FlowRecord) -> bool:
        """True if every field that asks something is met."""
        return (
            (not self.verdicts or str(flow.verdict) in self.verdicts)
            and (not self.directions or flow.direction.name in self.directions)
            and (not self.ports or flow.destination.port in self.ports)
            and (not self.pods or any(map(self._names, (flow.source, flow.destination))))
        )

    def _names(self, end: FlowEnd) -> bool:
        named = {end.pod, f"{end.namespace}/", f"{end.namespace}/{end.pod}"}
        return bool(end.pod) and not self.pods.isdisjoint(named)
