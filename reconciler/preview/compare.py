"""Judge observed flows under two policy sets, and tell those that one lets pass and the other does not.

In:   Observed, the policies before and after
Out:  Changes: flows that would be cut, or opened, and how often each was seen
Pure.

Most flows are judged alike: what differs is asked once for each end and port, as a bitmap of the other ends,
and a flow is then two look-ups. Flows with a request, or to a service, the evaluator judges, once each.

Holds always:
1. A flow is in the answer if and only if `netpolicy.evaluate` judges it differently under the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pyroaring import BitMap

from netpolicy.evaluate import Decision, Flow, evaluate
from netpolicy.rules import Direction, Policy
from reconciler.preview.export import NO_REQUEST, Observed, Port, Tuple
from reconciler.preview.passing import Ends, Side

Verdicts = tuple[bool, bool]
"""Before and after: does it pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How often each flow was seen that would be cut, or opened; how many were judged."""

    cut: Counter[Tuple] = field(default_factory=Counter)
    opened: Counter[Tuple] = field(default_factory=Counter)
    judged: int = 0


class PolicySet:
    """One policy set over the ends of an export."""

    def __init__(self, policies: Sequence[Policy], ends: Ends) -> None:
        self.egress = Side(policies, ends, Direction.EGRESS)
        self.ingress = Side(policies, ends, Direction.INGRESS)

    def allows(self, source: int, destination: int, port: Port) -> bool:
        """The verdict on a flow without a request."""
        return destination in self.egress.passing(source, port) and source in self.ingress.passing(
            destination, port
        )

    def decide(self, observed: Observed, one: Tuple) -> Decision:
        """The evaluator's decision on any flow, by the policies that have a say."""
        ends = observed.ends.seen
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


class Comparison:
    """Both policy sets over one export."""

    def __init__(
        self, observed: Observed, before: Sequence[Policy], after: Sequence[Policy]
    ) -> None:
        ends = Ends([seen.end for seen in observed.ends.seen])
        self._observed = observed
        self.before, self.after = PolicySet(before, ends), PolicySet(after, ends)
        self._services = frozenset(
            number for number, seen in enumerate(observed.ends.seen) if seen.end.is_service
        )

    def changes(self) -> Changes:
        """Go through all flows."""
        observed, changes = self._observed, Changes(judged=len(self._observed))
        carefully = Counter(observed.asked)
        suspects: Counter[Tuple] = Counter()
        ports, services = len(observed.ports), self._services
        leaving, entering = self._differing(Direction.EGRESS), self._differing(Direction.INGRESS)
        out: dict[int, BitMap] = {}
        into: dict[int, BitMap] = {}
        columns = (observed.source, observed.destination, observed.port)
        for source, destination, port in zip(*columns, strict=True):
            if services and (destination in services or source in services):
                carefully[Tuple(source, destination, port, NO_REQUEST)] += 1
                continue
            key = source * ports + port
            if (differing := out.get(key)) is None:
                differing = out[key] = leaving(source, port)
            if destination not in differing:
                key = destination * ports + port
                if (differing := into.get(key)) is None:
                    differing = into[key] = entering(destination, port)
                if source not in differing:
                    continue
            suspects[Tuple(source, destination, port, NO_REQUEST)] += 1
        _sort(suspects, changes, self._allow)
        _sort(carefully, changes, self._decide)
        return changes

    def _differing(self, direction: Direction) -> Callable[[int, int], BitMap]:
        """For an end and a port: the other ends that one policy set lets pass and the other does not."""
        is_egress = direction is Direction.EGRESS
        old, new = (
            policies.egress if is_egress else policies.ingress
            for policies in (self.before, self.after)
        )
        known: dict[tuple[int, int, int], BitMap] = {}

        def differing(end: int, port: int) -> BitMap:
            number = self._observed.ports[port]
            if old.is_by_name(end) or new.is_by_name(end):
                return old.passing(end, number) ^ new.passing(end, number)
            key = (old.set_of(end), new.set_of(end), port)
            if key not in known:
                known[key] = old.passing(end, number) ^ new.passing(end, number)
            return known[key]

        return differing

    def _allow(self, one: Tuple) -> Verdicts:
        port = self._observed.ports[one.port]
        return (
            self.before.allows(one.source, one.destination, port),
            self.after.allows(one.source, one.destination, port),
        )

    def _decide(self, one: Tuple) -> Verdicts:
        return (
            self.before.decide(self._observed, one).allowed,
            self.after.decide(self._observed, one).allowed,
        )


def _sort(seen: Counter[Tuple], changes: Changes, judge: Callable[[Tuple], Verdicts]) -> None:
    for one, count in seen.items():
        match judge(one):
            case (True, False):
                changes.cut[one] += count
            case (False, True):
                changes.opened[one] += count
