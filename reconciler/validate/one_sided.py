"""TG324: an allow on one side whose flows the other side's default deny refuses."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, Direction
from reconciler.validate.flow_sets import ports_may_share
from reconciler.validate.selector_sets import LabelSpace
from reconciler.validate.written import Written, WrittenIndex, WrittenRule

_OPPOSITE = {Direction.INGRESS: Direction.EGRESS, Direction.EGRESS: Direction.INGRESS}
_DOES = {Direction.INGRESS: "receive", Direction.EGRESS: "send"}


def check_one_sided(written: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    """Find the allow rules of one policy that no flow can use."""
    for rule in written.rules:
        if rule.rule.action is not Action.ALLOW or not _has_only_pods(rule):
            continue
        there = _OPPOSITE[rule.rule.direction]
        isolating = [_refusal(written, rule, space, index) for space in rule.peers.spaces or ()]
        if all(policy is not None for policy in isolating):
            named = ", ".join(sorted({str(policy) for policy in isolating}))
            yield written.warn(
                "TG324",
                f"what this rule allows the peer may not {_DOES[there]}",
                origin=rule.rule.origin,
                why=f"{named} puts the peer into default deny on {there.word}, and no {there.word} rule"
                " of any policy lets these flows pass",
                fix=f"allow it on {there.word} of the peer too, or remove this rule",
            )


def _has_only_pods(rule: WrittenRule) -> bool:
    """True if the rule names pods of known namespaces and no one else: only of those can it be told."""
    peers = rule.peers
    if not peers.spaces or peers.blocks or peers.names or peers.services:
        return False
    return all(space.namespace is not None for space in peers.spaces)


def _refusal(
    written: Written, rule: WrittenRule, peer: LabelSpace, index: WrittenIndex
) -> str | None:
    """The policy that isolates the peer, if no policy could let the flows pass there."""
    there = _OPPOSITE[rule.rule.direction]
    isolating = next((o for o in index.surely_select(peer) if o.isolates(there)), None)
    if isolating is None:
        return None
    is_let_pass = any(
        ports_may_share(other.rule.ports, rule.rule.ports)
        and other.peers.may_share(written.subject)
        for candidate in index.may_select(peer)
        for other in candidate.rules_for(there, Action.ALLOW)
    )
    return None if is_let_pass else str(isolating.policy.id)
