"""Selectors as sets of label sets: is one empty, inside another, or apart from it?

In:   selectors
Out:  LabelSpace: for each key, what its value may be; and how two of them lie to each other
Pure.

Holds always:
1. `is_empty` and `is_inside` are true only if no pod of any cluster could show otherwise.
2. `may_meet` is false only if no pod of any cluster is in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from netpolicy.entities import RESERVED_LABELS
from netpolicy.labels import (
    ANY_SOURCE,
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    RESERVED_SOURCE,
    Operator,
    Requirement,
    Selector,
)

LabelKey = tuple[str, str]

SHARED_PARTS: Final = 1 << 14
NAMESPACE: Final[LabelKey] = (KUBERNETES_SOURCE, NAMESPACE_KEY)


@dataclass(frozen=True, slots=True)
class ValueSpace:
    """What the value under one key may be. `allowed=None` means any value but the `excluded` ones."""

    may_be_absent: bool = True
    allowed: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """True if neither a value nor the absence of one would do."""
        return not self.may_be_absent and self.allowed is not None and not self.allowed

    def narrowed(self, other: ValueSpace) -> ValueSpace:
        """What both admit."""
        excluded = self.excluded | other.excluded
        if self.allowed is None:
            allowed = other.allowed
        elif other.allowed is None:
            allowed = self.allowed
        else:
            allowed = self.allowed & other.allowed
        return ValueSpace(
            self.may_be_absent and other.may_be_absent,
            None if allowed is None else allowed - excluded,
            excluded,
        )

    def is_inside(self, other: ValueSpace) -> bool:
        """True if the other admits all that this one does."""
        if self.may_be_absent and not other.may_be_absent:
            return False
        if other.allowed is not None:
            return self.allowed is not None and self.allowed <= other.allowed
        if self.allowed is not None:
            return self.allowed.isdisjoint(other.excluded)
        return other.excluded <= self.excluded


_ANYTHING: Final = ValueSpace()
_IDENTITIES: Final = tuple(
    frozenset(label.key for label in labels) for labels in RESERVED_LABELS.values()
)
_RESERVED_NAMES: Final = frozenset().union(*_IDENTITIES)
_NO_VALUE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The label sets that a selector matches, key by key."""

    keys: Mapping[LabelKey, ValueSpace]

    @property
    def empty_key(self) -> LabelKey | None:
        """A key that no label set could satisfy, if there is one: the selector matches nothing."""
        return next((key for key, space in self.keys.items() if space.is_empty), None)

    @property
    def namespace(self) -> str | None:
        """The one namespace it lies in, if it lies in one."""
        allowed = self.keys.get(NAMESPACE, _ANYTHING).allowed
        return next(iter(allowed)) if allowed is not None and len(allowed) == 1 else None

    def only_value(self, key: LabelKey) -> str | None:
        """The one value that the key must have, if there is one."""
        space = self.keys.get(key, _ANYTHING)
        if space.may_be_absent or space.allowed is None or len(space.allowed) != 1:
            return None
        return next(iter(space.allowed))

    def is_inside(self, other: LabelSpace) -> bool:
        """True if whatever this matches, the other matches too."""
        return all(
            self.keys.get(key, _ANYTHING).is_inside(space) for key, space in other.keys.items()
        )

    def may_meet(self, other: LabelSpace) -> bool:
        """False if nothing can be matched by both."""
        reserved = self._reserved_names | other._reserved_names
        if reserved and (self.is_pod or other.is_pod):
            return False
        if not any(reserved <= names for names in _IDENTITIES):
            return False
        return not any(
            space.narrowed(other.keys[key]).is_empty
            for key, space in self.keys.items()
            if key in other.keys
        )

    @property
    def is_pod(self) -> bool:
        """True if it matches pods with a namespace and no one else."""
        return not self.keys.get(NAMESPACE, _ANYTHING).may_be_absent

    @property
    def _reserved_names(self) -> frozenset[str]:
        """The reserved labels that it asks for; no pod with a namespace has one."""
        return frozenset(
            name
            for (source, name), space in self.keys.items()
            if source == RESERVED_SOURCE and not space.may_be_absent
        )


def label_space(selector: Selector) -> LabelSpace:
    """What a selector matches."""
    keys: dict[LabelKey, ValueSpace] = {}
    for requirement in selector.requirements:
        key, space = _part(requirement)
        keys[key] = keys[key].narrowed(space) if key in keys else space
    return LabelSpace(keys)


@lru_cache(maxsize=SHARED_PARTS)
def _part(requirement: Requirement) -> tuple[LabelKey, ValueSpace]:
    """The key of a requirement, and what its value may be; selectors of one namespace share theirs."""
    return _key(requirement), _space(requirement)


def _key(requirement: Requirement) -> LabelKey:
    """`any:app` and `k8s:app` are one key, unless a reserved label has that name too."""
    is_pod_label = requirement.source == ANY_SOURCE and requirement.key not in _RESERVED_NAMES
    return (KUBERNETES_SOURCE if is_pod_label else requirement.source), requirement.key


def _space(requirement: Requirement) -> ValueSpace:
    values = frozenset(requirement.values)
    match requirement.operator:
        case Operator.IN:
            return ValueSpace(may_be_absent=False, allowed=values)
        case Operator.NOT_IN:
            return ValueSpace(excluded=values)
        case Operator.EXISTS:
            return ValueSpace(may_be_absent=False)
        case Operator.DOES_NOT_EXIST:
            return ValueSpace(allowed=_NO_VALUE)
