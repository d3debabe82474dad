"""What rules want of ranges of ports, and where two of them want what cannot be had at once.

In:   claims on the ports of one place
Out:  pairs of claims that meet and differ
Pure. Cost: n log n for the order, then one step a claim and different wish.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from netpolicy.positions import NodePath
from netpolicy.rules import LAST_PORT, Action, Direction
from reconciler.objects.policy import PolicyObject, PortField, PortGroup

Wish = TypeVar("Wish", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PortClaim(Generic[Wish]):
    """A range of ports, what a rule wants of it, and where that is written."""

    first: int
    last: int
    wish: Wish
    policy: PolicyObject
    at: NodePath


def allowing_groups(policy: PolicyObject) -> Iterator[tuple[Direction, PortGroup]]:
    """The groups of ports of all rules that allow something: denies read no requests."""
    for section in policy.sections:
        for rule in section.rules if section.action is Action.ALLOW else ():
            for group in rule.ports or ():
                yield section.direction, group


def claim_of(
    field: PortField, *, wish: Wish, policy: PolicyObject, at: NodePath
) -> PortClaim[Wish]:
    """A claim on the ports of a field; on all of them where it names none."""
    first = field.port or 0
    last = field.end_port or (first or LAST_PORT)
    return PortClaim(first, last, wish, policy, at)


def conflicts(
    claims: Iterable[PortClaim[Wish]],
) -> Iterator[tuple[PortClaim[Wish], PortClaim[Wish]]]:
    """Each claim, with one that began no later and wants something else of a port of both."""
    open_until: dict[Wish, PortClaim[Wish]] = {}
    for one in sorted(claims, key=lambda a: (a.first, a.policy.document.path, a.at)):
        for wish, other in open_until.items():
            if wish != one.wish and other.last >= one.first:
                yield one, other
        widest = open_until.get(one.wish)
        if widest is None or widest.last < one.last:
            open_until[one.wish] = one
