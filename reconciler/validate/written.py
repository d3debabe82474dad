"""Compiled policies beside their text, and found by whom they select.

In:   PolicyObject values and the policies compiled from them
Out:  Written, and WrittenIndex to find those that may select, or surely select, some endpoints
Pure; the memo only saves work. What each selector means is worked out once for all checks.

Holds always:
1. `may_select` leaves out no policy that could select one of the endpoints.
2. `surely_select` names only policies that select every one of the endpoints.
3. A namespace whose policies are the very same as before keeps its group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from netpolicy.errors import Diagnostic
from netpolicy.positions import NodePath
from netpolicy.rules import Action, Direction, Mode, Policy, Rule
from reconciler.codes import fault
from reconciler.objects.origin import origin_path
from reconciler.objects.policy import PolicyObject
from reconciler.validate.flow_sets import PeerSet, peer_set
from reconciler.validate.mixed_tls import reads_connections, treats_tls
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
    """A compiled policy, the text it comes from, and whom it selects.

    `treating`: its rules that allow, and that say how TLS is to be treated.
    """

    text: PolicyObject
    policy: Policy
    subject: LabelSpace
    rules: tuple[WrittenRule, ...]
    treating: tuple[WrittenRule, ...] = ()

    def isolates(self, direction: Direction) -> bool:
        """True if it enforces a default deny in this direction."""
        return self.policy.mode is Mode.ENFORCE and direction in self.policy.default_deny

    def rules_for(self, direction: Direction, action: Action) -> Iterator[WrittenRule]:
        """Its rules of one direction and action."""
        return (rule for rule in self.rules if rule.is_for(direction, action))

    def warn(
        self, code: str, message: str, *, origin: str = "", why: str = "", fix: str = ""
    ) -> Diagnostic:
        """What is found at one of its rules, or (no origin) at its name."""
        at: NodePath = origin_path(self.text, origin) if origin else ("metadata", "name")
        return fault(self.text.document, at, code, message, why=why, fix=fix, on_key=bool(origin))


class WrittenMemo:
    """What the last pass brought together, so that an unchanged policy is not taken apart again."""

    def __init__(self) -> None:
        self._known: dict[int, Written] = {}

    def of_each(
        self, objects: Iterable[PolicyObject], policies: Iterable[Policy]
    ) -> tuple[Written, ...]:
        """Bring each compiled policy together with its text, in the order of the policies."""
        texts = {(text.id, text.index): text for text in objects}
        fresh: dict[int, Written] = {}
        for policy in policies:
            text = texts[policy.id, policy.index]
            kept = self._known.get(id(policy))
            if kept is None or kept.policy is not policy or kept.text is not text:
                kept = _written(text, policy)
            fresh[id(policy)] = kept
        self._known = fresh
        return tuple(fresh.values())


def _written(text: PolicyObject, policy: Policy) -> Written:
    rules = tuple(WrittenRule(rule, peer_set(rule.peers)) for rule in policy.rules)
    treating = tuple(one for one in rules if _treats_tls(one.rule))
    return Written(text, policy, label_space(policy.subject), rules, treating)


def _treats_tls(rule: Rule) -> bool:
    return rule.action is Action.ALLOW and treats_tls(rule) and reads_connections(rule)


EVERY_NAMESPACE: Final = "*"
CLUSTER_WIDE: Final = ""


class WrittenIndex:
    """Policies by the namespace they select in, and there by one label that they demand.

    `consulted` collects the namespaces that were looked into: what was found depends on no others.
    """

    def __init__(self, policies: Iterable[Written], before: WrittenIndex | None = None) -> None:
        members: dict[str, list[Written]] = {}
        for written in policies:
            if not written.policy.selects_nodes:
                members.setdefault(written.subject.namespace or CLUSTER_WIDE, []).append(written)
        known: Mapping[str, _ByLabel] = before._groups if before else {}
        self._groups: dict[str, _ByLabel] = {
            name: _group(each, known.get(name)) for name, each in members.items()
        }
        self.consulted: set[str] = set()

    def may_select(self, space: LabelSpace) -> Iterator[Written]:
        """The policies that could select an endpoint of the space."""
        for group in self._groups_of(space):
            for written in group.may_demand(space):
                if written.subject.may_meet(space):
                    yield written

    def surely_select(self, space: LabelSpace) -> Iterator[Written]:
        """The policies that select every endpoint of the space."""
        for group in self._groups_of(space):
            for written in group.surely_demand(space):
                if space.is_inside(written.subject):
                    yield written

    def is_same_in(self, namespaces: Iterable[str], before: WrittenIndex) -> bool:
        """True if these namespaces hold the very policies that they held before."""
        return all(
            self._groups == before._groups
            if name == EVERY_NAMESPACE
            else self._groups.get(name) is before._groups.get(name)
            for name in namespaces
        )

    def _groups_of(self, space: LabelSpace) -> Iterable[_ByLabel]:
        if space.namespace is None:
            self.consulted.add(EVERY_NAMESPACE)
            return self._groups.values()
        names = (space.namespace, CLUSTER_WIDE)
        self.consulted.update(names)
        return [self._groups[name] for name in names if name in self._groups]


def _group(members: list[Written], before: _ByLabel | None) -> _ByLabel:
    """The group of these policies: the one before, if it has the same ones."""
    return before if before is not None and before.members == members else _ByLabel(members)


class _ByLabel:
    """Policies by the first label whose only value they demand; the others together."""

    def __init__(self, members: list[Written]) -> None:
        self.members = members
        self._by_value: dict[LabelKey, dict[str, list[Written]]] = {}
        self._others: list[Written] = []
        for written in members:
            self._add(written)

    def _add(self, written: Written) -> None:
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
