"""Compiled policies beside their text, and found by whom they select.

In:   PolicyObject values and the policies compiled from them
Out:  Written, and WrittenIndex to find those that may select, or surely select, some endpoints
Pure. What each selector means is worked out once for all checks.

Holds always:
1. `may_select` leaves out no policy that could select one of the endpoints.
2. `surely_select` names only policies that select every one of the endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netpolicy.document import NodePath
from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, Direction, Mode, Policy, Rule
from reconciler.codes import fault
from reconciler.objects.origin import origin_path
from reconciler.objects.policy import PolicyObject
from reconciler.validate.flow_sets import PeerSet, peer_set
from reconciler.validate.selector_sets import NAMESPACE, LabelKey, LabelSpace, label_space


@dataclass(frozen=True, slots=True, eq=False)
class WrittenRule:
    """A compiled rule and whom its peers stand for."""

    rule: Rule
    peers: PeerSet

    def is_for(self, direction: Direction, action: Action) -> bool:
        """True if the rule is of this direction and action."""
        return self.rule.direction is direction and self.rule.action is action


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A compiled policy, the text it comes from, and whom it selects."""

    text: PolicyObject
    policy: Policy
    subject: LabelSpace
    rules: tuple[WrittenRule, ...]

    def isolates(self, direction: Direction) -> bool:
        """True if it enforces a default deny in this direction."""
        return self.policy.mode is Mode.ENFORCE and direction in self.policy.default_deny

    def rules_for(self, direction: Direction, action: Action) -> Iterator[WrittenRule]:
        """Its rules of one direction and action."""
        return (rule for rule in self.rules if rule.is_for(direction, action))

    def warn(
        self, code: str, message: str, *, origin: str = "", why: str = "", fix: str = ""
    ) -> Diagnostic:
        """A warning at one of its rules, or (no origin) at its name."""
        at: NodePath = origin_path(self.text, origin) if origin else ("metadata", "name")
        return fault(self.text.document, at, code, message, why=why, fix=fix, on_key=bool(origin))


def written_policies(
    objects: Iterable[PolicyObject], policies: Iterable[Policy]
) -> tuple[Written, ...]:
    """Bring each compiled policy together with its text, in the order of the policies."""
    texts = {(text.id, text.index): text for text in objects}
    return tuple(_written(texts[policy.id, policy.index], policy) for policy in policies)


def _written(text: PolicyObject, policy: Policy) -> Written:
    rules = tuple(WrittenRule(rule, peer_set(rule.peers)) for rule in policy.rules)
    return Written(text, policy, label_space(policy.subject), rules)


class WrittenIndex:
    """Policies by the namespace they select in, and there by one label that they demand."""

    def __init__(self, policies: Iterable[Written]) -> None:
        self._by_namespace: dict[str, _ByLabel] = {}
        for written in policies:
            if not written.policy.selects_nodes:
                place = written.subject.namespace or ""
                self._by_namespace.setdefault(place, _ByLabel()).add(written)

    def may_select(self, space: LabelSpace) -> Iterator[Written]:
        """The policies that could select an endpoint of the space."""
        for group in self._groups(space):
            for written in group.may_demand(space):
                if written.subject.may_meet(space):
                    yield written

    def surely_select(self, space: LabelSpace) -> Iterator[Written]:
        """The policies that select every endpoint of the space."""
        for group in self._groups(space):
            for written in group.surely_demand(space):
                if space.is_inside(written.subject):
                    yield written

    def _groups(self, space: LabelSpace) -> Iterable[_ByLabel]:
        if space.namespace is None:
            return self._by_namespace.values()
        found = (self._by_namespace.get(name) for name in (space.namespace, ""))
        return [group for group in found if group is not None]


class _ByLabel:
    """Policies by the first label whose only value they demand; the others together."""

    def __init__(self) -> None:
        self._by_value: dict[LabelKey, dict[str, list[Written]]] = {}
        self._others: list[Written] = []

    def add(self, written: Written) -> None:
        for key in written.subject.keys:
            value = None if key == NAMESPACE else written.subject.only_value(key)
            if value is not None:
                self._by_value.setdefault(key, {}).setdefault(value, []).append(written)
                return
        self._others.append(written)

    def surely_demand(self, space: LabelSpace) -> Iterator[Written]:
        """Those whose label, if they have one here, the space has with just that value."""
        yield from self._others
        for key, by_value in self._by_value.items():
            value = space.only_value(key)
            if value is not None:
                yield from by_value.get(value, ())

    def may_demand(self, space: LabelSpace) -> Iterator[Written]:
        """All but those whose label the space gives another value."""
        yield from self.surely_demand(space)
        for key, by_value in self._by_value.items():
            if space.only_value(key) is None:
                for group in by_value.values():
                    yield from group
