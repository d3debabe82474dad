"""Judge a candidate by what the fleet saw of it.

In:   the plan's Gates, Evidence, the health of the nodes, denials that the authors meant
Out:  Verdict: pass, fail with reasons, or inconclusive with what is missing
Pure.

Holds always:
1. Nothing seen is never a pass: too little evidence is inconclusive, whatever else is fine.
2. A failure outweighs missing evidence.
3. More would-be denials never turn a failure into a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from netpolicy.evidence import Cause, Difference, FlowSide, Role
from netpolicy.rules import Protocol
from reconciler.rollout.answers import answer_failures
from reconciler.rollout.evidence import Evidence, NodeReport
from reconciler.rollout.expected import ExpectedDenial
from reconciler.rollout.plan import Gates

MAX_NAMED: Final = 3
"""Nodes or flows that a reason names; the rest is a number."""


class Answer(StrEnum):
    """What the gates say together."""

    PASS = "pass"  # noqa: S105  no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer, and what led to it: failures, or what is missing."""

    answer: Answer
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The nodes that are to take part.

    `chosen`: those that must enforce the candidate by now. `refusing`: node → why its agent did not
    take the publication in question. `awaiting`: node → what it still waits for.
    """

    nodes: Set[str]
    chosen: Set[str] = frozenset()
    refusing: Mapping[str, str]
    awaiting: Mapping[str, str] = field(default_factory=dict)


def judge_stage(
    gates: Gates, evidence: Evidence, fleet: Fleet, expected: Iterable[ExpectedDenial]
) -> Verdict:
    """What the gates say of a stage."""
    failures = [
        *health_failures(evidence, fleet),
        *_difference_failures(gates, evidence, expected),
        *answer_failures(gates, evidence),
    ]
    if failures:
        return Verdict(answer=Answer.FAIL, reasons=tuple(failures))
    missing = [
        *_silent(gates, evidence, fleet),
        *_thin_coverage(gates, evidence),
        *_not_observed(evidence, fleet),
    ]
    if missing:
        return Verdict(answer=Answer.INCONCLUSIVE, reasons=tuple(missing))
    return Verdict(answer=Answer.PASS)


def health_failures(evidence: Evidence, fleet: Fleet) -> list[str]:
    """Nodes on which the candidate does not work, whatever the flows say."""
    refused = {node: why for node, why in fleet.refusing.items() if node in fleet.nodes}
    for node in sorted(fleet.nodes & evidence.reports.keys()):
        latest = evidence.reports[node].latest
        if latest.role is Role.REVERTED:
            refused[node] = "lost its reconciler under the candidate, and went back by itself"
        elif latest.error:
            refused[node] = latest.error
    return [f"{node}: {why}" for node, why in sorted(refused.items())]


def unexpected(
    differences: Iterable[Difference], expected: Iterable[ExpectedDenial]
) -> tuple[Difference, ...]:
    """The would-be denials that no intent declares."""
    meant = tuple(expected)
    return tuple(
        difference
        for difference in differences
        if difference.cause is Cause.WOULD_DENY and not any(one.covers(difference) for one in meant)
    )


def side_text(side: FlowSide) -> str:
    """One end for people: the pod, else its labels."""
    if side.pod:
        return f"{side.namespace}/{side.pod}"
    return ",".join(str(label) for label in side.labels) or "unknown"


def flow_text(difference: Difference) -> str:
    """`shop/web → shop/api tcp/80`, and of a request ` GET /products`."""
    source, destination = side_text(difference.source), side_text(difference.destination)
    request = f" {difference.request}" if difference.request else ""
    return (
        f"{source} → {destination} {protocol_word(difference.protocol)}/{difference.port}{request}"
    )


def number_of(count: int, what: str) -> str:
    """`1 flow`, `2 flows`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def protocol_word(protocol: int) -> str:
    """`tcp`, or the number of a protocol that has no name here."""
    try:
        return Protocol(protocol).word
    except ValueError:
        return str(protocol)


def _difference_failures(
    gates: Gates, evidence: Evidence, expected: Iterable[ExpectedDenial]
) -> list[str]:
    differences = evidence.differences()
    denied = unexpected(differences, expected)
    denials = sum(difference.count for difference in denied)
    allowed = [one for one in differences if one.cause is Cause.WOULD_ALLOW]
    allows = sum(difference.count for difference in allowed)
    failures = []
    if evidence.omitted:
        # They cannot be compared with the intents, so they count as what nobody expected.
        more = (
            "1 more flow differs"
            if evidence.omitted == 1
            else f"{evidence.omitted} more flows differ"
        )
        failures.append(f"{more} than nodes could list")
    if denials > gates.unexpected_denials:
        failures.append(
            f"{_flows(denials, 'passes', 'pass')} now would be denied"
            f" (tolerated: {gates.unexpected_denials}):"
            f" {_named([flow_text(one) for one in denied])}"
        )
    if gates.unexpected_allows is not None and allows > gates.unexpected_allows:
        failures.append(
            f"{_flows(allows, 'is refused', 'are refused')} now would be allowed"
            f" (tolerated: {gates.unexpected_allows}):"
            f" {_named([flow_text(one) for one in allowed])}"
        )
    return failures


def _silent(gates: Gates, evidence: Evidence, fleet: Fleet) -> list[str]:
    """Nodes that do not do yet what the stage asks of them."""
    if not fleet.nodes:
        return ["the inventory has no nodes"]
    silent = sorted(n for n in fleet.nodes if not _takes_part(evidence.reports.get(n)))
    late = sorted(
        node
        for node in fleet.chosen - set(silent)
        if evidence.reports[node].latest.role is not Role.ENFORCING
    )
    missing = []
    if len(silent) > gates.unreported_nodes:
        missing.append(f"no report on the candidate from {_named(silent)}")
    if late:
        missing.append(f"not enforcing the candidate yet: {_named(late)}")
    waiting = sorted(fleet.nodes & fleet.awaiting.keys())
    if waiting:
        missing.append(_named([f"{node}: {fleet.awaiting[node]}" for node in waiting]))
    return missing


def _takes_part(report: NodeReport | None) -> bool:
    return report is not None and report.latest.role in (Role.SHADOW, Role.ENFORCING)


def _thin_coverage(gates: Gates, evidence: Evidence) -> list[str]:
    found = (
        (evidence.flows, gates.minimum_flows, "flow"),
        (evidence.pods, gates.minimum_pods, "pod"),
    )
    return [
        f"{number_of(seen, what)} seen of {least} needed"
        for seen, least, what in found
        if seen < least
    ]


def _not_observed(evidence: Evidence, fleet: Fleet) -> list[str]:
    """Requests of which only nodes that enforce the candidate can tell what becomes of them."""
    if fleet.chosen:
        return []
    found = evidence.differences()
    missing = []
    if unseen := [one for one in found if one.cause is Cause.NOT_OBSERVED]:
        rules = sorted({str(rule) for one in unseen for rule in one.rules})
        missing.append(
            f"not observed: {number_of(_sum(unseen), 'request')} that new limits or TLS settings of"
            f" {_named(rules)} are for"
        )
    if unread := [one for one in found if one.cause is Cause.WOULD_REDIRECT]:
        flows = dict.fromkeys(flow_text(one) for one in unread)
        missing.append(
            f"not observed: the requests of {number_of(_sum(unread), 'flow')} that nobody looks into"
            f" yet and that new rules are for: {_named([*flows])}"
        )
    return missing


def _sum(differences: Iterable[Difference]) -> int:
    return sum(one.count for one in differences)


def _flows(count: int, one: str, many: str) -> str:
    """`1 flow that passes`, `2 flows that pass`."""
    return f"{number_of(count, 'flow')} that {one if count == 1 else many}"


def _named(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
