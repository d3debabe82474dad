"""Peer classes: identities that no rule of this node can tell apart are one.

In:   the node's identities, the distinct Peers of its rules
Out:  PeerClasses: a class for each identity, and the classes of each Peers
Pure. Numbers depend on the sets alone, not on any order.

Holds always:
1. Every known identity has a class, 1 or more; 0 is the wildcard.
2. Two identities share a class only if every Peers matches both or neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netpolicy.labels import Labels
from netpolicy.rules import Peers
from nodeagent.plan.generation import ANY_CLASS
from nodeagent.plan.membership import Membership, matches_everyone


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerClasses:
    """The partition. `classes_of` answers for every Peers it was made from."""

    class_of: Mapping[int, int]
    _members: Mapping[Peers, tuple[int, ...]]

    def classes_of(self, peers: Peers | None) -> tuple[int, ...]:
        """The classes that these peers are: the wildcard alone if they are everyone."""
        if peers is None or matches_everyone(peers):
            return (ANY_CLASS,)
        return self._members[peers]


def partition_identities(
    identities: Mapping[int, Labels], peers: Iterable[Peers | None]
) -> PeerClasses:
    """Make the coarsest partition of the identities that respects all these peers."""
    membership = Membership(identities)
    specs = sorted({p for p in peers if p is not None and not matches_everyone(p)})
    signatures: dict[int, list[int]] = {number: [] for number in sorted(identities)}
    found = {spec: membership.members(spec) for spec in specs}
    for index, spec in enumerate(specs):
        for number in found[spec]:
            signatures[number].append(index)
    classes: dict[tuple[int, ...], int] = {}
    class_of = {
        number: classes.setdefault(tuple(signature), len(classes) + 1)
        for number, signature in signatures.items()
    }
    return PeerClasses(class_of=class_of, _members=_classes_by_spec(specs, classes))


def _classes_by_spec(
    specs: list[Peers], classes: Mapping[tuple[int, ...], int]
) -> dict[Peers, tuple[int, ...]]:
    by_index: defaultdict[int, list[int]] = defaultdict(list)
    for signature, number in classes.items():
        for index in signature:
            by_index[index].append(number)
    return {spec: tuple(sorted(by_index[index])) for index, spec in enumerate(specs)}
