"""The chain of rules behind a verdict: who selects, what matches, what nearly does, and why not.

In:   compiled policies, where each was written, a flow between two named ends
Out:  Explanation
Pure. The verdict is `netpolicy.evaluate`'s; this only says where it comes from.

Holds always:
1. The rules said to match are those the evaluator decided by, and no others.
2. A policy that is not enforced is shown as such, and is never the reason for a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netpolicy.errors import Place
from netpolicy.evaluate import Decision, End, Flow, Outcome, Side, evaluate
from netpolicy.labels import NAMESPACE_KEY
from netpolicy.rules import Action, Direction, Mode, Policy, PolicyId, Rule, RuleId
from reconciler.compile.rule_text import rule_text, selector_text
from reconciler.explain.ends import NamedEnd
from reconciler.explain.misses import (
    BEHIND_SERVICE,
    Miss,
    rule_misses,
    unmet_requirements,
    unmet_text,
)

WhereWritten = Callable[[Policy, str], Place | None]
"""The place of a policy (empty origin) or of one of its rules, if it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReport:
    """One rule and what keeps it from matching (nothing, if it matches)."""

    origin: str
    action: Action
    text: str
    place: Place | None
    misses: tuple[Miss, ...]

    @property
    def matches(self) -> bool:
        """True if the rule takes part in the verdict."""
        return not self.misses

    @property
    def nearly_matches(self) -> bool:
        """True if one thing alone keeps it from matching."""
        return len(self.misses) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReport:
    """One policy as seen from one end: whether it selects the end, and what its rules say.

    `unmet` is what the end lacks to be selected; `is_near` says that it is one label of a pod of the
    same namespace. `rules` are those of the direction in question.
    """

    id: PolicyId
    index: int
    mode: Mode
    subject: str
    place: Place | None
    unmet: tuple[str, ...]
    is_near: bool
    isolates: bool
    rules: tuple[RuleReport, ...]

    @property
    def selects(self) -> bool:
        """True if the policy applies to the end."""
        return not self.unmet

    @property
    def nearly_decides(self) -> bool:
        """True if one label alone keeps a rule that matches from having its say."""
        return self.is_near and any(rule.matches for rule in self.rules)


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReport:
    """One side's answer and every policy that selects, or nearly selects, its endpoint."""

    direction: Direction
    endpoint: NamedEnd
    side: Side
    policies: tuple[PolicyReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The whole answer about one flow."""

    source: NamedEnd
    destination: NamedEnd
    flow: Flow
    decision: Decision
    sides: tuple[SideReport, SideReport]


def explain_flow(
    policies: Iterable[Policy],
    flow: Flow,
    *,
    ends: tuple[NamedEnd, NamedEnd],
    where: WhereWritten = lambda _policy, _origin: None,
    admit_local_host: bool = True,
) -> Explanation:
    """Judge a flow by the enforced policies, and say by which."""
    ordered = tuple(sorted(policies, key=lambda policy: (policy.id, policy.index)))
    decision = evaluate(ordered, flow, admit_local_host=admit_local_host)
    source, destination = ends
    leaving = _Reporter(
        Direction.EGRESS, flow.source, flow.destination, decision.egress, flow, where
    )
    arriving = _Reporter(
        Direction.INGRESS, flow.destination, flow.source, decision.ingress, flow, where
    )
    return Explanation(
        source=source,
        destination=destination,
        flow=flow,
        decision=decision,
        sides=(
            SideReport(
                direction=Direction.EGRESS,
                endpoint=source,
                side=decision.egress,
                policies=leaving.policies(ordered),
            ),
            SideReport(
                direction=Direction.INGRESS,
                endpoint=destination,
                side=decision.ingress,
                policies=arriving.policies(ordered),
            ),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Reporter:
    """Reports policies and rules as one end of the flow meets them."""

    direction: Direction
    endpoint: End
    peer: End
    side: Side
    flow: Flow
    where: WhereWritten

    def policies(self, policies: Iterable[Policy]) -> tuple[PolicyReport, ...]:
        """Every policy that selects the endpoint, or nearly does."""
        if self.side.outcome is Outcome.NOT_AN_ENDPOINT:
            return ()
        reports = (
            self._policy(policy)
            for policy in policies
            if policy.selects_nodes is self.endpoint.is_node
        )
        return tuple(report for report in reports if report.selects or report.is_near)

    def _policy(self, policy: Policy) -> PolicyReport:
        labels = self.endpoint.labels
        unmet = unmet_requirements(policy.subject, labels)
        return PolicyReport(
            id=policy.id,
            index=policy.index,
            mode=policy.mode,
            subject=selector_text(policy.subject),
            place=self.where(policy, ""),
            unmet=tuple(unmet_text(requirement, labels) for requirement in unmet),
            is_near=len(unmet) == 1 and unmet[0].key != NAMESPACE_KEY,
            isolates=self.direction in policy.default_deny,
            rules=tuple(
                self._rule(policy, rule)
                for rule in policy.rules
                if rule.direction is self.direction
            ),
        )

    def _rule(self, policy: Policy, rule: Rule) -> RuleReport:
        return RuleReport(
            origin=rule.origin,
            action=rule.action,
            text=rule_text(rule),
            place=self.where(policy, rule.origin),
            misses=() if self._decides(policy, rule) else self._misses(rule),
        )

    def _misses(self, rule: Rule) -> tuple[Miss, ...]:
        return (
            (BEHIND_SERVICE,) if self.peer.is_service else rule_misses(rule, self.peer, self.flow)
        )

    def _decides(self, policy: Policy, rule: Rule) -> bool:
        """True if the verdict rests on the rule: several may together allow what none does alone."""
        is_decisive = self.side.outcome in (Outcome.ALLOWED, Outcome.DENIED_BY_RULE)
        return is_decisive and RuleId(policy=policy.id, origin=rule.origin) in self.side.rules
