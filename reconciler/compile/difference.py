"""What changes between two revisions, in the terms of policy.

In:   the units of both
Out:  PolicyDifference: policies added, removed and changed; as text and as data
Pure.

Holds always:
1. Two sets of units with one meaning have no difference: the order of rules is none.
2. Every rule that appears or goes is named, and every direction that becomes open or isolated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netpolicy.rules import Direction, Mode, Policy, PolicyId, Rule, Unit
from reconciler.compile.rule_text import rule_text, selector_text


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """How one policy differs. `isolated` and `opened` are directions of default deny."""

    id: PolicyId
    index: int = 0
    rules_added: tuple[Rule, ...] = ()
    rules_removed: tuple[Rule, ...] = ()
    isolated: tuple[Direction, ...] = ()
    opened: tuple[Direction, ...] = ()
    subjects: tuple[str, str] | None = None
    modes: tuple[Mode, Mode] | None = None
    log_values: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        return self != PolicyChange(id=self.id, index=self.index)

    def to_data(self) -> dict[str, Any]:
        """The change as plain data, for JSON."""
        return {
            **_identity(self.id, self.index),
            "rulesAdded": _rule_data(self.rules_added),
            "rulesRemoved": _rule_data(self.rules_removed),
            "defaultDenyTurnedOn": [d.word for d in self.isolated],
            "defaultDenyTurnedOff": [d.word for d in self.opened],
            "subject": list(self.subjects) if self.subjects else None,
            "mode": [str(mode) for mode in self.modes] if self.modes else None,
            "logValue": list(self.log_values) if self.log_values else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDifference:
    """All that differs; true if anything does."""

    added: tuple[Policy, ...] = ()
    removed: tuple[Policy, ...] = ()
    changed: tuple[PolicyChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def to_data(self) -> dict[str, Any]:
        """The difference as plain data, for JSON."""
        return {
            "added": [_policy_data(policy) for policy in self.added],
            "removed": [_policy_data(policy) for policy in self.removed],
            "changed": [change.to_data() for change in self.changed],
        }

    def to_text(self) -> str:
        """The difference as a person reads it."""
        lines: list[str] = []
        for mark, policies in (("+", self.added), ("-", self.removed)):
            for policy in policies:
                lines += _policy_lines(policy, mark)
        for change in self.changed:
            lines += _change_lines(change)
        return "\n".join(lines) or "no policy changes"


def difference(before: Sequence[Unit], after: Sequence[Unit]) -> PolicyDifference:
    """Compare the units of two revisions."""
    old, new = _by_key(before), _by_key(after)
    changes = (_change(old[key], new[key]) for key in sorted(old.keys() & new.keys()))
    return PolicyDifference(
        added=tuple(new[key] for key in sorted(new.keys() - old.keys())),
        removed=tuple(old[key] for key in sorted(old.keys() - new.keys())),
        changed=tuple(change for change in changes if change),
    )


def _by_key(units: Iterable[Unit]) -> dict[tuple[PolicyId, int], Policy]:
    return {(policy.id, policy.index): policy for unit in units for policy in unit.policies}


def _change(old: Policy, new: Policy) -> PolicyChange:
    added, removed = _rules_apart(old.rules, new.rules)
    subjects = (_subject_text(old), _subject_text(new))
    is_same_subject = (old.subject, old.selects_nodes) == (new.subject, new.selects_nodes)
    log_values = (old.log_value, new.log_value)
    return PolicyChange(
        id=new.id,
        index=new.index,
        rules_added=added,
        rules_removed=removed,
        isolated=_missing(new.default_deny, old.default_deny),
        opened=_missing(old.default_deny, new.default_deny),
        subjects=None if is_same_subject else subjects,
        log_values=None if old.log_value == new.log_value else log_values,
        modes=None if old.mode == new.mode else (old.mode, new.mode),
    )


def _rules_apart(
    old: tuple[Rule, ...], new: tuple[Rule, ...]
) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules that only one side has, whatever they are numbered."""
    return _surplus(new, old), _surplus(old, new)


def _surplus(rules: tuple[Rule, ...], others: tuple[Rule, ...]) -> tuple[Rule, ...]:
    unmatched = Counter(replace(rule, origin="") for rule in others)
    surplus = []
    for rule in rules:
        content = replace(rule, origin="")
        if unmatched[content]:
            unmatched[content] -= 1
        else:
            surplus.append(rule)
    return tuple(surplus)


def _subject_text(policy: Policy) -> str:
    text = selector_text(policy.subject)
    if not policy.selects_nodes:
        return text
    return f"nodes with {text}" if policy.subject.requirements else "every node"


def _missing(wanted: Iterable[Direction], have: Iterable[Direction]) -> tuple[Direction, ...]:
    return tuple(sorted(set(wanted) - set(have)))


def _identity(policy_id: PolicyId, index: int) -> dict[str, Any]:
    return {
        "kind": str(policy_id.kind),
        "namespace": policy_id.namespace,
        "name": policy_id.name,
        "index": index,
    }


def _rule_data(rules: Iterable[Rule]) -> list[dict[str, str]]:
    return [{"rule": rule.origin, "text": rule_text(rule)} for rule in rules]


def _policy_data(policy: Policy) -> dict[str, Any]:
    return {
        **_identity(policy.id, policy.index),
        "mode": str(policy.mode),
        "subject": _subject_text(policy),
        "defaultDeny": [direction.word for direction in policy.default_deny],
        "rules": _rule_data(policy.rules),
    }


def _title(mark: str, policy_id: PolicyId, index: int) -> str:
    entry = f", entry {index}" if index else ""
    return f"{mark} {policy_id} ({policy_id.kind}{entry})"


def _policy_lines(policy: Policy, mark: str) -> Iterator[str]:
    yield _title(mark, policy.id, policy.index)
    yield f"    {mark} selects {_subject_text(policy)}"
    if policy.mode is not Mode.ENFORCE:
        yield f"    {mark} mode {policy.mode}"
    for direction in policy.default_deny:
        yield f"    {mark} default deny on {direction.word}"
    for rule in policy.rules:
        yield f"    {mark} {rule.origin}: {rule_text(rule)}"


def _change_lines(change: PolicyChange) -> Iterator[str]:
    yield _title("~", change.id, change.index)
    if change.subjects:
        yield f"    ~ selects {change.subjects[1]} (was {change.subjects[0]})"
    if change.modes:
        yield f"    ~ mode {change.modes[1]} (was {change.modes[0]})"
    if change.log_values:
        old, new = (value or "nothing" for value in change.log_values)
        yield f"    ~ logs {new} (was {old})"
    for mark, directions in (("+", change.isolated), ("-", change.opened)):
        for direction in directions:
            yield f"    {mark} default deny on {direction.word}"
    for mark, rules in (("-", change.rules_removed), ("+", change.rules_added)):
        for rule in rules:
            yield f"    {mark} {rule.origin}: {rule_text(rule)}"
