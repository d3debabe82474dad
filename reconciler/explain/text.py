"""An explanation as a person reads it, and as plain data for JSON.

In:   Explanation
Out:  text; data
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from netpolicy.evaluate import Flow, Outcome, Side
from netpolicy.rules import Direction, Mode
from reconciler.explain.chain import Explanation, PolicyReport, RuleReport, SideReport
from reconciler.explain.misses import request_text

_OUTCOMES: Final = {
    Outcome.NOT_AN_ENDPOINT: "passes: no policy applies to what is no pod",
    Outcome.UNSELECTED: "passes: no policy isolates it in this direction",
    Outcome.ALLOWED: "allowed by {rules}",
    Outcome.LOCAL_HOST: "passes: a node's own host reaches its pods",
    Outcome.DENIED_BY_RULE: "DENIED by {rules}",
    Outcome.DENIED_BY_DEFAULT: "DENIED by default: no rule allows it, and it is isolated by {rules}",
    Outcome.DENIED_BY_REQUEST: "DENIED for what it carries: {rules} allow other requests only",
}
_SIDE_WORDS: Final = {Direction.EGRESS: "from", Direction.INGRESS: "to"}


def explanation_text(explanation: Explanation, *, whole: bool = False) -> str:
    """The answer; `whole` also lists rules and policies that are far from matching."""
    return "\n".join(_lines(explanation, whole))


def explanation_data(explanation: Explanation) -> dict[str, Any]:
    """The answer for machines: every policy that selects or nearly selects, with every rule."""
    flow = explanation.flow
    return {
        "from": explanation.source.name,
        "to": explanation.destination.name,
        "protocol": flow.protocol.word,
        "port": flow.port,
        "request": request_text(flow.request) if flow.request else None,
        "serverName": flow.server_name,
        "allowed": explanation.decision.allowed,
        "redirected": explanation.decision.redirected,
        "sides": [_side_data(side) for side in explanation.sides],
    }


def outcome_text(side: Side) -> str:
    """One side's answer in words."""
    text = _OUTCOMES[side.outcome].format(rules=", ".join(map(str, side.rules)))
    if side.passes and side.redirected:
        text += "; a proxy judges what it carries"
    if side.passes and side.authentication:
        text += f"; authentication: {side.authentication}"
    return text


def _lines(explanation: Explanation, whole: bool) -> Iterator[str]:
    flow = explanation.flow
    verdict = "allowed" if explanation.decision.allowed else "DENIED"
    yield (
        f"{explanation.source.name} → {explanation.destination.name}"
        f" {flow.protocol.word}/{flow.port}{_content_text(flow)}: {verdict}"
    )
    for side in explanation.sides:
        yield ""
        yield from _side_lines(side, whole)


def _content_text(flow: Flow) -> str:
    server = f" TLS to {flow.server_name}" if flow.server_name else ""
    return server + (f" {request_text(flow.request)}" if flow.request else "")


def _side_lines(side: SideReport, whole: bool) -> Iterator[str]:
    word = side.direction.word
    yield f"{word} {_SIDE_WORDS[side.direction]} {side.endpoint.name}: {outcome_text(side.side)}"
    for policy in side.policies:
        has_a_say = policy.isolates or policy.rules
        if policy.selects and (has_a_say or whole):
            yield from _selecting_lines(policy, word, whole)
    for policy in side.policies:
        if policy.nearly_decides or (whole and not policy.selects):
            yield f"  {policy.id} does not select it: {policy.unmet[0]}{_at(policy)}"


def _selecting_lines(policy: PolicyReport, word: str, whole: bool) -> Iterator[str]:
    isolates = f"default deny on {word}" if policy.isolates else f"no default deny on {word}"
    mode = "" if policy.mode is Mode.ENFORCE else f"; {policy.mode}: not enforced here"
    yield f"  {policy.id} ({policy.id.kind}) selects {policy.subject}; {isolates}{mode}{_at(policy)}"
    shown = [rule for rule in policy.rules if whole or rule.matches or rule.nearly_matches]
    for rule in shown:
        yield f"    {'+' if rule.matches else '-'} {rule.origin}: {rule.text}{_at(rule)}"
        for miss in rule.misses:
            yield f"        no match, {miss.part}: {miss.why}"
    if hidden := len(policy.rules) - len(shown):
        are = "rule is" if hidden == 1 else "rules are"
        yield f"    {hidden} more {are} for other peers and other ports"


def _at(report: PolicyReport | RuleReport) -> str:
    return f"  [{report.place.path}:{report.place.line}]" if report.place else ""


def _side_data(side: SideReport) -> dict[str, Any]:
    return {
        "direction": side.direction.word,
        "endpoint": side.endpoint.name,
        "passes": side.side.passes,
        "outcome": str(side.side.outcome),
        "redirected": side.side.redirected,
        "authentication": str(side.side.authentication) if side.side.authentication else None,
        "decidedBy": [
            {
                "kind": str(rule.policy.kind),
                "namespace": rule.policy.namespace,
                "name": rule.policy.name,
                "rule": rule.origin,
            }
            for rule in side.side.rules
        ],
        "policies": [_policy_data(policy) for policy in side.policies],
    }


def _policy_data(policy: PolicyReport) -> dict[str, Any]:
    return {
        "kind": str(policy.id.kind),
        "namespace": policy.id.namespace,
        "name": policy.id.name,
        "index": policy.index,
        "mode": str(policy.mode),
        "place": str(policy.place or ""),
        "subject": policy.subject,
        "selects": policy.selects,
        "unmet": list(policy.unmet),
        "isolates": policy.isolates,
        "rules": [_rule_data(rule) for rule in policy.rules],
    }


def _rule_data(rule: RuleReport) -> dict[str, Any]:
    return {
        "rule": rule.origin,
        "action": str(rule.action),
        "text": rule.text,
        "place": str(rule.place or ""),
        "matches": rule.matches,
        "misses": [{"part": str(miss.part), "why": miss.why} for miss in rule.misses],
    }
