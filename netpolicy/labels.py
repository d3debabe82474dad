"""Labels and the selectors that match them, as Cilium names and matches them.

In:   label sets of endpoints, selectors of policies
Out:  does this selector match this label set
Pure.

Holds always:
1. A selector with no requirement matches every label set; to match nothing, have no selector.
2. `NotIn` and `DoesNotExist` are satisfied by an absent key.
3. Equal selectors have equal requirements, whatever order the author wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

ANY_SOURCE: Final = "any"
KUBERNETES_SOURCE: Final = "k8s"
RESERVED_SOURCE: Final = "reserved"
NODE_SOURCE: Final = "node"
PORT_SOURCE: Final = "port"

NAMESPACE_KEY: Final = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS_PREFIX: Final = "io.cilium.k8s.namespace.labels."
CLUSTER_KEY: Final = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT_KEY: Final = "io.cilium.k8s.policy.serviceaccount"


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """One label, `source:key=value`; a label without a value has the empty one."""

    source: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        return (
            f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"
        )


def parse_label(text: str) -> Label:
    """Read `source:key=value`, `source:key` or `key=value` (source `k8s`)."""
    head, _, value = text.partition("=")
    source, colon, key = head.partition(":")
    return Label(source, key, value) if colon else Label(KUBERNETES_SOURCE, head, value)


class Labels:
    """An immutable label set: sorted, hashable, with one value for each (source, key)."""

    __slots__ = ("_by_key", "_hash", "items")

    def __init__(self, items: Iterable[Label] = ()) -> None:
        self.items: tuple[Label, ...] = tuple(sorted(set(items)))
        self._hash = hash(self.items)
        by_key: dict[tuple[str, str], str] = {}
        for label in self.items:
            by_key[label.source, label.key] = label.value
            by_key.setdefault((ANY_SOURCE, label.key), label.value)
        self._by_key: Mapping[tuple[str, str], str] = by_key

    def get(self, source: str, key: str) -> str | None:
        """The value under a key, from that source or (`any`) from the first that has it."""
        return self._by_key.get((source, key))

    def lookups(self) -> Iterable[tuple[tuple[str, str], str]]:
        """Everything that `get` answers: ((source or `any`, key), value)."""
        return self._by_key.items()

    def has_reserved(self, name: str) -> bool:
        """True if this is a reserved identity such as `world` or `host`."""
        return (RESERVED_SOURCE, name) in self._by_key

    def __iter__(self) -> Iterator[Label]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Labels) and self.items == other.items

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Labels({', '.join(map(str, self.items))})"


def parse_labels(texts: Iterable[str]) -> Labels:
    """Read a label set from its texts."""
    return Labels(parse_label(text) for text in texts)


class Operator(StrEnum):
    """How a requirement tests the value under its key."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Requirement:
    """One test on a label set; `source` may be `any`. `values` is sorted and empty for existence."""

    source: str = ANY_SOURCE
    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def is_met_by(self, labels: Labels) -> bool:
        """True if the label set passes this test."""
        value = labels.get(self.source, self.key)
        match self.operator:
            case Operator.IN:
                return value is not None and value in self.values
            case Operator.NOT_IN:
                return value is None or value not in self.values
            case Operator.EXISTS:
                return value is not None
            case Operator.DOES_NOT_EXIST:
                return value is None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Selector:
    """A conjunction of requirements, sorted and without repeats (see `selector`)."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        """True if every requirement is met."""
        return all(requirement.is_met_by(labels) for requirement in self.requirements)


def selector(requirements: Iterable[Requirement]) -> Selector:
    """The selector in its one canonical form."""
    return Selector(requirements=tuple(sorted({_canonical(r) for r in requirements})))


def _canonical(requirement: Requirement) -> Requirement:
    values = requirement.values
    if len(values) < 2:
        return requirement
    ordered = tuple(sorted(set(values)))
    return requirement if ordered == values else replace(requirement, values=ordered)


@lru_cache(maxsize=1024)  # most selectors name one of a few namespaces and the cluster
def equals(key: str, value: str, *, source: str = ANY_SOURCE) -> Requirement:
    """The requirement that `matchLabels` writes as `key: value`."""
    return Requirement(source=source, key=key, operator=Operator.IN, values=(value,))
