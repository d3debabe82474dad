"""What was counted of a candidate on this node, by names instead of numbers.

In:   counts of the kernel, the names of the plan that they were counted under
Out:  Tally, NodeEvidence
Pure.

Holds always:
1. A tally only grows: what was counted under an earlier generation of the same candidate is added to.
2. What cannot be listed is counted as omitted, never forgotten.
3. Causes are the candidate's, whichever side of it is enforced: where it is, and the former policy is asked
   beside it, what that one would allow is what the candidate denies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from typing import Protocol as Shape

from netpolicy.evidence import MAX_DIFFERENCES, Cause, Difference, FlowSide, NodeEvidence, Role
from netpolicy.inventory import AddressEntry
from netpolicy.labels import KUBERNETES_SOURCE, NAMESPACE_KEY, Labels
from netpolicy.rules import Direction, RuleId
from nodeagent.plan.generation import Attribution, Generation
from nodeagent.plan.model import judge


class Counted(Shape):
    """One count of the kernel's: see `nodeagent.datapath.shadows`."""

    @property
    def source_identity(self) -> int: ...

    @property
    def destination_identity(self) -> int: ...

    @property
    def protocol(self) -> int: ...

    @property
    def port(self) -> int: ...

    @property
    def direction(self) -> Direction: ...

    @property
    def cause(self) -> Cause: ...

    @property
    def cookie(self) -> int: ...

    @property
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforced:
    """The candidate where it is enforced. `endpoints`: identity → one of this node's that has it."""

    generation: Generation
    endpoints: Mapping[int, int]

    def rules(self, one: Counted) -> tuple[RuleId, ...]:
        """The rules by which it judges what was counted."""
        is_egress = one.direction is Direction.EGRESS
        own = one.source_identity if is_egress else one.destination_identity
        peer = one.destination_identity if is_egress else one.source_identity
        if own not in self.endpoints:
            return ()
        return judge(
            self.generation,
            endpoint_id=self.endpoints[own],
            direction=one.direction,
            peer_identity=peer,
            protocol=one.protocol,
            port=one.port,
        ).rules


TURNED: Final = {
    Cause.WOULD_DENY: Cause.WOULD_ALLOW,
    Cause.WOULD_ALLOW: Cause.WOULD_DENY,
    Cause.WOULD_REDIRECT: Cause.WOULD_NOT_REDIRECT,
    Cause.WOULD_NOT_REDIRECT: Cause.WOULD_REDIRECT,
}
"""What the candidate does where the former policy would do this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the numbers of a count stand for: identities, and the cookies of the generation that was asked.

    `pods`: the pod of a label set, where exactly one has it. `enforced`: the candidate, where the former
    policy was asked beside it.
    """

    identities: Mapping[int, Labels]
    attributions: Mapping[int, Attribution]
    pods: Mapping[Labels, FlowSide] = field(default_factory=dict)
    enforced: Enforced | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Differences (without their counts) and how often each was counted; flows and pods judged; differing
    flows that could not be told apart any more."""

    differences: Mapping[Difference, int] = field(default_factory=dict)
    flows: int = 0
    pods: int = 0
    omitted: int = 0


def names_of(
    identities: Mapping[int, Labels],
    owners: Iterable[AddressEntry],
    attributions: Mapping[int, Attribution],
) -> Names:
    """The names behind a plan's numbers."""
    pods: dict[Labels, set[tuple[str, str]]] = {}
    for owner in owners:
        if owner.namespace:
            pods.setdefault(owner.labels, set()).add((owner.namespace, owner.name))
    alone = {
        labels: FlowSide(namespace=namespace, pod=name, labels=labels)
        for labels, found in pods.items()
        if len(found) == 1
        for namespace, name in found
    }
    return Names(identities=identities, attributions=attributions, pods=alone)


def tally(
    counted: Iterable[Counted], coverage: Mapping[int, int], *, lost: int, names: Names
) -> Tally:
    """Name what the kernel counted. `coverage`: endpoint → flows judged under the candidate too."""
    differences: Counter[Difference] = Counter()
    for one in counted:
        differences[_named(one, names)] += one.count
    return Tally(
        differences=differences,
        flows=sum(coverage.values()),
        pods=sum(flows > 0 for flows in coverage.values()),
        omitted=lost,
    )


def total(earlier: Tally, later: Tally) -> Tally:
    """Both tallies as one. Pods are not told apart, so that at least this many were seen."""
    return Tally(
        differences=Counter(earlier.differences) + Counter(later.differences),
        flows=earlier.flows + later.flows,
        pods=max(earlier.pods, later.pods),
        omitted=earlier.omitted + later.omitted,
    )


def beyond(earlier: Tally, later: Tally) -> Tally:
    """Of a tally that was made while the candidate is enforced, what was not known of it before.

    A refused packet counts each time it comes: flows that a gate tolerated once must not fail it by trying
    again.
    """
    known = {replace(one, rules=()) for one in earlier.differences}
    news = {one: n for one, n in later.differences.items() if replace(one, rules=()) not in known}
    return replace(later, differences=news)


def report(
    counted: Tally,
    *,
    node: str,
    candidate_digest: str,
    generation_digest: str,
    role: Role,
    error: str = "",
) -> NodeEvidence:
    """The evidence of a tally: the most frequent differences first."""
    ranked = sorted(counted.differences.items(), key=lambda item: (-item[1], _order(item[0])))
    listed = ranked[:MAX_DIFFERENCES]
    return NodeEvidence(
        node=node,
        candidate_digest=candidate_digest,
        generation_digest=generation_digest,
        role=role,
        flows=counted.flows,
        pods=counted.pods,
        differences=tuple(replace(difference, count=count) for difference, count in listed),
        omitted=counted.omitted + sum(count for _, count in ranked[MAX_DIFFERENCES:]),
        error=error,
    )


def tally_of(evidence: NodeEvidence) -> Tally:
    """The tally that a report was made of, as far as it listed it."""
    return Tally(
        differences={replace(one, count=0): one.count for one in evidence.differences},
        flows=evidence.flows,
        pods=evidence.pods,
        omitted=evidence.omitted,
    )


def _named(one: Counted, names: Names) -> Difference:
    turned = names.enforced
    because = names.attributions.get(one.cookie)
    rules = because.rules if because else ()
    return Difference(
        source=side_of(one.source_identity, names),
        destination=side_of(one.destination_identity, names),
        protocol=one.protocol,
        port=one.port,
        direction=one.direction,
        cause=TURNED[one.cause] if turned else one.cause,
        rules=turned.rules(one) if turned else rules,
    )


def side_of(identity: int, names: Names) -> FlowSide:
    """One end: the pod, where exactly one has these labels."""
    labels = names.identities.get(identity, Labels())
    namespace = labels.get(KUBERNETES_SOURCE, NAMESPACE_KEY) or ""
    return names.pods.get(labels, FlowSide(namespace=namespace, labels=labels))


def _order(difference: Difference) -> str:
    """A fixed order among equals: equal tallies give equal reports."""
    return repr(difference)
