"""What all nodes together saw of one candidate.

In:   NodeEvidence of the nodes, in any order, as often as they like
Out:  Evidence: one entry a node, and the differences of all nodes summed up
Pure.

Holds always:
1. Only reports on the candidate in question count; the order and number of reports change nothing
   but for the latest of each node.
2. What a node saw while it only observed is kept when it begins to enforce; what it reports then can
   only add to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from netpolicy.evidence import Difference, NodeEvidence, Role

MAX_SHOWN: Final = 1_000
"""Differences of a fleet that are kept for people, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node's latest word, and what it observed before it enforced.

    `observed`: the generations it counted under while it observed. `enforced`: the generation by which
    it began to enforce; empty while it does not, or where nobody saw it begin.
    """

    latest: NodeEvidence
    shadow: NodeEvidence | None = None
    observed: frozenset[str] = frozenset()
    enforced: str = ""

    @property
    def flows(self) -> int:
        """Flows judged under the candidate too."""
        return max(self.latest.flows, self.shadow.flows if self.shadow else 0)

    @property
    def pods(self) -> int:
        """Local pods they belong to."""
        return max(self.latest.pods, self.shadow.pods if self.shadow else 0)

    def differences(self) -> dict[Difference, int]:
        """What the candidate judges otherwise (counts set to 0), and how often."""
        found: dict[Difference, int] = {}
        for report in filter(None, (self.shadow, self.latest)):
            for difference in report.differences:
                key = replace(difference, count=0)
                found[key] = max(found.get(key, 0), difference.count)
        return found

    @property
    def omitted(self) -> int:
        """Differing flows that it counted and did not list."""
        return max(self.latest.omitted, self.shadow.omitted if self.shadow else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The reports on one candidate, by node."""

    digest: str = ""
    reports: Mapping[str, NodeReport] = field(default_factory=dict)

    @property
    def flows(self) -> int:
        """Flows judged under the candidate too, on all nodes."""
        return sum(report.flows for report in self.reports.values())

    @property
    def pods(self) -> int:
        """Pods they belong to."""
        return sum(report.pods for report in self.reports.values())

    @property
    def omitted(self) -> int:
        """Differing flows that are counted but not listed."""
        return sum(report.omitted for report in self.reports.values())

    def differences(self) -> tuple[Difference, ...]:
        """The differences of all nodes, equal ones summed up, the most frequent first."""
        total: dict[Difference, int] = {}
        for report in self.reports.values():
            for difference, count in report.differences().items():
                total[difference] = total.get(difference, 0) + count
        summed = (replace(difference, count=count) for difference, count in total.items())
        return tuple(sorted(summed, key=_worst_first))


def add(evidence: Evidence, new: Iterable[NodeEvidence]) -> Evidence:
    """The evidence with more reports, later ones last; those on another candidate change nothing."""
    reports = dict(evidence.reports)
    for report in new:
        if report.candidate_digest == evidence.digest:
            reports[report.node] = _with(reports.get(report.node), report)
    return replace(evidence, reports=reports)


def evidence_of(digest: str, reports: Iterable[NodeEvidence] = ()) -> Evidence:
    """The evidence on one candidate."""
    return add(Evidence(digest=digest), reports)


def _with(before: NodeReport | None, report: NodeEvidence) -> NodeReport:
    held = before or NodeReport(latest=report)
    match report.role:
        case Role.SHADOW:
            seen = frozenset(filter(None, [report.generation_digest]))
            return NodeReport(latest=report, shadow=report, observed=held.observed | seen)
        case Role.ENFORCING if held.latest.role is Role.SHADOW:
            return replace(held, latest=report, enforced=report.generation_digest)
        case _:
            return replace(held, latest=report)


def _worst_first(difference: Difference) -> tuple[int, str, str]:
    """The last one fixes the order among equals."""
    return (-difference.count, difference.cause, repr(difference))
