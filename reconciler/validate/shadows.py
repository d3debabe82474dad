"""TG320, TG321: policies and rules that a deny takes back whole."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, Mode, RuleId
from reconciler.validate.flow_sets import ports_cover
from reconciler.validate.written import Written, WrittenIndex, WrittenRule


def check_shadows(written: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    """Find the allow rules of one policy that never allow anything."""
    allows = [rule for rule in written.rules if rule.rule.action is Action.ALLOW]
    if not allows:
        return
    denying = list(_denying(written, index))
    if not denying:
        return
    shadows = [(rule, _shadow(rule, denying)) for rule in allows]
    if all(shadow is not None for _, shadow in shadows):
        named = ", ".join(sorted({str(shadow) for _, shadow in shadows}))
        yield written.warn("TG320", f"all that {written.policy.id} allows is denied by {named}")
        return
    for rule, shadow in shadows:
        if shadow is not None:
            message = f"all that this rule allows is denied by {shadow}"
            yield written.warn("TG321", message, origin=rule.rule.origin)


def _denying(written: Written, index: WrittenIndex) -> Iterator[tuple[RuleId, WrittenRule]]:
    """The deny rules that stand wherever this policy does."""
    for other in index.surely_select(written.subject):
        if other.policy.mode not in (Mode.ENFORCE, written.policy.mode):
            continue
        for rule in other.rules:
            if rule.rule.action is Action.DENY:
                yield RuleId(policy=other.policy.id, origin=rule.rule.origin), rule


def _shadow(rule: WrittenRule, denying: list[tuple[RuleId, WrittenRule]]) -> RuleId | None:
    return next((name for name, deny in denying if _covers(deny, rule)), None)


def _covers(deny: WrittenRule, allow: WrittenRule) -> bool:
    return (
        deny.rule.direction is allow.rule.direction
        and ports_cover(deny.rule.ports, allow.rule.ports)
        and deny.peers.covers(allow.peers)
    )
