"""Who stands behind each address of a node's plan.

In:   the entries of the cluster in order, this node's pods, its own addresses; the Owners of the plan before
Out:  Owners; and, carried on, which addresses may have another owner than before
Pure.

Holds always:
1. What the node sees of its own pods stands over what the cluster's feed says of them; its own addresses
   stand over both. Of two entries with one address the one given last stands.
2. What is carried on equals what is made anew: an address that more than one may claim has all made anew.
3. Carrying on costs what changed, but for copies of pointers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import Labels
from nodeagent.plan.addresses import canonical_address
from nodeagent.plan.inputs import PlanInputs

FEW: Final = 500
"""So many changed entries are looked at one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """By canonical address, in their order where they were made anew. `crowded`: addresses that more than
    one claims; `uses`: how many addresses each label set stands behind."""

    by_address: Mapping[str, AddressEntry]
    crowded: frozenset[str]
    uses: Mapping[Labels, int]


def owners_of(inputs: PlanInputs) -> Owners:
    """All of them anew."""
    owners = {canonical_address(entry.address): entry for entry in inputs.entries}
    own = _own(inputs)
    crowded = set(own)
    if len(owners) < len(inputs.entries):
        times = Counter(canonical_address(entry.address) for entry in inputs.entries)
        crowded.update(address for address, count in times.items() if count > 1)
    owners |= own
    return Owners(
        by_address=dict(sorted(owners.items())),
        crowded=frozenset(crowded),
        uses=Counter(entry.labels for entry in owners.values()),
    )


def carried(
    before: Owners, was: PlanInputs, inputs: PlanInputs
) -> tuple[Owners, frozenset[str]] | None:
    """The owners carried on, and the addresses that changed hands; None if that cannot be done."""
    if _own_side(was) != _own_side(inputs):
        return None
    change = difference(was.entries, inputs.entries)
    gone = {canonical_address(entry.address): entry for entry in change.gone}
    come = {canonical_address(entry.address): entry for entry in change.come}
    touched = gone.keys() | come.keys()
    if len(touched) > FEW or len(gone) + len(come) < len(change):
        return None
    if not before.crowded.isdisjoint(touched) or before.by_address.keys() & (come.keys() - gone):
        return None
    owners, uses = dict(before.by_address), Counter(before.uses)
    for address, entry in gone.items():
        del owners[address]
        uses[entry.labels] -= 1
        if not uses[entry.labels]:
            del uses[entry.labels]
    for address, entry in come.items():
        owners[address] = entry
        uses[entry.labels] += 1
    return Owners(by_address=owners, crowded=before.crowded, uses=uses), frozenset(touched)


def difference(
    was: tuple[AddressEntry, ...], now: tuple[AddressEntry, ...]
) -> Change[AddressEntry]:
    """Entries that are not the very same objects. What both begin and end with is passed over at the speed
    of memory."""
    first = _alike(was, now)
    last = _alike(was[first:][::-1], now[first:][::-1])
    left, right = was[first : len(was) - last], now[first : len(now) - last]
    had, have = set(map(id, left)), set(map(id, right))
    return Change(
        gone=tuple(entry for entry in left if id(entry) not in have),
        come=tuple(entry for entry in right if id(entry) not in had),
    )


def _alike(some: tuple[AddressEntry, ...], others: tuple[AddressEntry, ...]) -> int:
    """How many both have in common at their beginning."""
    low, high = 0, min(len(some), len(others))
    while low < high:
        middle = (low + high + 1) // 2
        if some[low:middle] == others[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _own_side(inputs: PlanInputs) -> tuple[object, ...]:
    """What stands over the entries."""
    return (inputs.node, inputs.pods, inputs.node_addresses, inputs.node_labels)


def _own(inputs: PlanInputs) -> dict[str, AddressEntry]:
    """The node's pods, and itself over them."""
    owners = {}
    for pod in inputs.pods:
        for address in map(canonical_address, pod.addresses):
            owners[address] = AddressEntry(
                address=address,
                labels=pod.labels,
                namespace=pod.namespace,
                name=pod.name,
                node=inputs.node,
            )
    for address in map(canonical_address, inputs.node_addresses):
        owners[address] = AddressEntry(
            address=address, labels=inputs.node_labels, name=inputs.node, node=inputs.node
        )
    return owners
