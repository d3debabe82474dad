"""Peer classes: identities that no rule of this node can tell apart are one.

In:   the node's identities, the distinct Peers of its rules
Out:  PeerClasses: a class for each identity, and the classes of each Peers
Pure. Numbers depend on the sets alone, not on any order.

Holds always:
1. Every known identity has a class, 1 or more; 0 is the wildcard.
2. Two identities share a class only if every Peers matches both or neither.
3. Numbers follow from the kinds of identities there are, not from the identities: one more of a known
   kind, or one less, leaves every other class as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from netpolicy.labels import Labels
from netpolicy.rules import Peers
from nodeagent.plan.generation import ANY_CLASS
from nodeagent.plan.membership import Membership, matches_everyone

Signature: TypeAlias = tuple[int, ...]
"""Which of the distinct Peers, by index, match an identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerClasses:
    """The partition. `classes_of` answers for every Peers it was made from."""

    class_of: Mapping[int, int]
    _specs: tuple[Peers, ...]
    _by_signature: Mapping[Signature, int]
    _members: Mapping[Peers, tuple[int, ...]]

    def classes_of(self, peers: Peers | None) -> tuple[int, ...]:
        """The classes that these peers are: the wildcard alone if they are everyone."""
        if peers is None or matches_everyone(peers):
            return (ANY_CLASS,)
        return self._members[peers]

    def place(self, identities: Mapping[int, Labels]) -> dict[int, int] | None:
        """The classes of further identities; None if one is of a kind that none here is."""
        placed = {
            number: self._by_signature.get(signature)
            for number, signature in _signatures(identities, self._specs).items()
        }
        known = {number: found for number, found in placed.items() if found is not None}
        return known if len(known) == len(placed) else None


def partition_identities(
    identities: Mapping[int, Labels], peers: Iterable[Peers | None]
) -> PeerClasses:
    """Make the coarsest partition of the identities that respects all these peers."""
    specs = tuple(sorted({p for p in peers if p is not None and not matches_everyone(p)}))
    signatures = _signatures(identities, specs)
    classes = {
        signature: number for number, signature in enumerate(sorted({*signatures.values()}), 1)
    }
    return PeerClasses(
        class_of={number: classes[signature] for number, signature in signatures.items()},
        _specs=specs,
        _by_signature=classes,
        _members=_classes_by_spec(specs, classes),
    )


def _signatures(identities: Mapping[int, Labels], specs: tuple[Peers, ...]) -> dict[int, Signature]:
    """An identity's signature is its own affair: it does not depend on which others there are."""
    membership = Membership(identities)
    matching: dict[int, list[int]] = {number: [] for number in sorted(identities)}
    for index, spec in enumerate(specs):
        for number in membership.members(spec):
            matching[number].append(index)
    return {number: tuple(found) for number, found in matching.items()}


def _classes_by_spec(
    specs: tuple[Peers, ...], classes: Mapping[Signature, int]
) -> dict[Peers, tuple[int, ...]]:
    by_index: defaultdict[int, list[int]] = defaultdict(list)
    for signature, number in classes.items():
        for index in signature:
            by_index[index].append(number)
    return {spec: tuple(sorted(by_index[index])) for index, spec in enumerate(specs)}
