"""Judge observed flows under two policy sets, and tell those that one lets pass and the other does not.

In:   Observed, the policies before and after
Out:  Changed: the sources whose flows to an end and port would be cut, or opened
Pure.

All flows to one port of an end are judged at once: whom it lets in before and after are two bitmaps, and
who was seen is a third. One by one are judged only those whose verdict may differ. Flows with a request, or
to a service, the evaluator judges, once each.

Holds always:
1. A flow is in the answer if and only if `netpolicy.evaluate` judges it differently under the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyroaring import BitMap

from netpolicy.evaluate import Decision, Flow, evaluate
from netpolicy.rules import Direction, Policy
from reconciler.preview.observed import NO_REQUEST, Observed, Served, Tuple
from reconciler.preview.passing import Ends, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Sources whose flows pass before and not after, and the other way round."""

    cut: BitMap = field(default_factory=BitMap)
    opened: BitMap = field(default_factory=BitMap)

    def note(self, source: int, *, before: bool, after: bool) -> None:
        """Put it where it belongs, if anywhere."""
        if before and not after:
            self.cut.add(source)
        elif after and not before:
            self.opened.add(source)


class PolicySet:
    """One policy set over the ends of an export."""

    def __init__(self, policies: Sequence[Policy], ends: Ends) -> None:
        self.egress = Side(policies, ends, Direction.EGRESS)
        self.ingress = Side(policies, ends, Direction.INGRESS)

    def decide(self, observed: Observed, one: Tuple) -> Decision:
        """The evaluator's decision on any flow, by the policies that have a say."""
        ends = observed.ends
        protocol, port = observed.ports[one.port]
        flow = Flow(
            source=ends[one.source].end,
            destination=ends[one.destination].end,
            protocol=protocol,
            port=port,
            request=None if one.request == NO_REQUEST else observed.requests[one.request],
        )
        either = (*self.egress.selecting(one.source), *self.ingress.selecting(one.destination))
        return evaluate({id(policy): policy for policy in either}.values(), flow)


class _Leaving:
    """To whom flows to one port may leave, before and after, of every source that was asked for."""

    def __init__(self) -> None:
        self.of: dict[int, tuple[BitMap, BitMap]] = {}
        self.asked = BitMap()
        self.differing = BitMap()

    def add(self, source: int, before: BitMap, after: BitMap) -> None:
        self.of[source] = before, after
        if before != after:
            self.differing.add(source)


class Comparison:
    """Both policy sets over one export."""

    def __init__(
        self, observed: Observed, before: Sequence[Policy], after: Sequence[Policy]
    ) -> None:
        ends = Ends([seen.end for seen in observed.ends])
        self._observed = observed
        self.before, self.after = PolicySet(before, ends), PolicySet(after, ends)
        self._services = BitMap(n for n, seen in enumerate(observed.ends) if seen.end.is_service)
        self._leaving: dict[int, _Leaving] = {}

    def changed(self, served: Served, sources: Iterable[int]) -> Changed:
        """What becomes of the flows from these sources."""
        destination, number = served
        found, seen = Changed(), BitMap(sources)
        by_service = seen if destination in self._services else seen & self._services
        for source in by_service:
            before, after = self.verdicts(Tuple(source, destination, number, NO_REQUEST))
            found.note(source, before=before, after=after)
        self._compare(served, seen - by_service, found)
        return found

    def _compare(self, served: Served, seen: BitMap, found: Changed) -> None:
        destination, number = served
        port, leaving = self._observed.ports[number], self._leaving_of(number, seen)
        before = self.before.ingress.passing(destination, port) & seen
        after = self.after.ingress.passing(destination, port) & seen
        for source in (before ^ after) | (before & after & leaving.differing):
            leaves_before, leaves_after = leaving.of[source]
            found.note(
                source,
                before=source in before and destination in leaves_before,
                after=source in after and destination in leaves_after,
            )

    def _leaving_of(self, number: int, sources: BitMap) -> _Leaving:
        port, leaving = self._observed.ports[number], self._leaving.setdefault(number, _Leaving())
        old, new = self.before.egress, self.after.egress
        for source in sources - leaving.asked:
            leaving.add(source, old.passing(source, port), new.passing(source, port))
        leaving.asked |= sources
        return leaving

    def verdicts(self, one: Tuple) -> tuple[bool, bool]:
        """Whether any flow passes before, and after, as the evaluator says."""
        return (
            self.before.decide(self._observed, one).allowed,
            self.after.decide(self._observed, one).allowed,
        )
