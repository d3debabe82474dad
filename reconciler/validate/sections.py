"""TG209, TG300–TG305, TG310: what empty lists and empty rules mean, which is rarely what they seem to."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, Direction, PolicyKind
from reconciler.codes import fault
from reconciler.objects.defaults import is_empty_deny_all, isolated_directions, matches_nothing
from reconciler.objects.policy import PolicyObject, RuleObject, Section


def check_sections(policy: PolicyObject) -> Iterator[Diagnostic]:
    """Check what the sections of one policy add up to."""
    if policy.id.kind is not PolicyKind.NP:
        yield from _says_something(policy)
        yield from _empty_lists(policy)
        yield from _default_deny_without_rules(policy)
    for section in policy.sections:
        for rule in section.rules:
            yield from _empty_rule(policy, section, rule)


def _says_something(policy: PolicyObject) -> Iterator[Diagnostic]:
    has_rules = any(section.rules for section in policy.sections)
    if not has_rules and not isolated_directions(policy):
        yield fault(policy.document, policy.at, "TG209", "the policy has no rule", on_key=True)


def _empty_lists(policy: PolicyObject) -> Iterator[Diagnostic]:
    for section in policy.sections:
        if section.rules or section.action is Action.DENY:
            continue
        word = section.direction.word
        if policy.declares(section.direction) is not None:
            continue
        if is_empty_deny_all(policy, section.direction):
            message = f'"{section.field}: []" refuses all {word}'
            yield fault(policy.document, section.at, "TG300", message, on_key=True)
        elif not policy.has_rules(section.direction):
            message = f'"{section.field}: []" leaves {word} as open as before'
            yield fault(policy.document, section.at, "TG301", message, on_key=True)


def _default_deny_without_rules(policy: PolicyObject) -> Iterator[Diagnostic]:
    for direction in Direction:
        if policy.declares(direction) and not policy.has_rules(direction):
            at = (*policy.at, "enableDefaultDeny", direction.word)
            message = f"this refuses all {direction.word}"
            yield fault(policy.document, at, "TG304", message, on_key=True)


def _empty_rule(policy: PolicyObject, section: Section, rule: RuleObject) -> Iterator[Diagnostic]:
    says_nothing = rule.peers is None and rule.ports is None and rule.icmps is None
    if policy.id.kind is PolicyKind.NP:
        if says_nothing:
            message = f"this allows all {section.direction.word}"
            yield fault(policy.document, rule.at, "TG303", message)
    elif says_nothing and section.action is Action.ALLOW and len(section.rules) == 1:
        message = f"this refuses all {section.direction.word}"
        yield fault(policy.document, rule.at, "TG302", message)
    elif matches_nothing(policy, rule):
        yield fault(policy.document, rule.at, "TG305", "this rule matches nothing")
    elif rule.ports == () and not rule.icmps:
        at = (*rule.at, "toPorts")
        message = '"toPorts: []" means every port'
        yield fault(policy.document, at, "TG310", message, on_key=True)
