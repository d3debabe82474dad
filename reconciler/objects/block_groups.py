"""Give each policy the groups of blocks that its rules refer to.

In:   every policy and every CiliumCIDRGroup of a revision
Out:  the policies with their groups; an error for each reference to none
Pure.

Holds always:
1. A reference to no group is an error: a deny would otherwise deny nothing, in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from netpolicy.errors import Diagnostic
from reconciler.codes import fault
from reconciler.objects.policy import BlockGroup, BlockGroupPeer, PolicyObject


def link_groups(
    policies: Iterable[PolicyObject], groups: Iterable[BlockGroup]
) -> tuple[tuple[PolicyObject, ...], list[Diagnostic]]:
    """Attach groups; policies that refer to none stay the same objects."""
    by_name: dict[str, BlockGroup] = {}
    faults: list[Diagnostic] = []
    for group in groups:
        first = by_name.setdefault(group.name, group)
        if first is not group:
            faults.append(_given_twice(group, first))
    linked: list[PolicyObject] = []
    for policy in policies:
        references = tuple(_references(policy))
        if references:
            faults += _missing(policy, references, by_name)
            linked.append(replace(policy, groups=_referred(references, by_name)))
        else:
            linked.append(policy)
    return tuple(linked), faults


def groups_of(peer: BlockGroupPeer, groups: Iterable[BlockGroup]) -> tuple[BlockGroup, ...]:
    """The groups that a peer means."""
    return tuple(group for group in groups if _means(peer, group))


def _means(peer: BlockGroupPeer, group: BlockGroup) -> bool:
    if peer.selector is None:
        return peer.name == group.name
    return all(requirement.is_met_by(group.labels) for requirement in peer.selector.requirements)


def _references(policy: PolicyObject) -> Iterator[BlockGroupPeer]:
    for section in policy.sections:
        for rule in section.rules:
            for peer in rule.peers or ():
                if isinstance(peer, BlockGroupPeer):
                    yield peer


def _referred(
    references: tuple[BlockGroupPeer, ...], by_name: dict[str, BlockGroup]
) -> tuple[BlockGroup, ...]:
    return tuple(
        group
        for _, group in sorted(by_name.items())
        if any(_means(peer, group) for peer in references)
    )


def _missing(
    policy: PolicyObject, references: tuple[BlockGroupPeer, ...], by_name: dict[str, BlockGroup]
) -> Iterator[Diagnostic]:
    for peer in references:
        if not groups_of(peer, by_name.values()):
            where = "cidrGroupRef" if peer.selector is None else "cidrGroupSelector"
            what = f'"{peer.name}"' if peer.selector is None else "with these labels"
            yield fault(
                policy.document, (*peer.at, where), "TG218", f"there is no CiliumCIDRGroup {what}"
            )


def _given_twice(group: BlockGroup, first: BlockGroup) -> Diagnostic:
    at = ("metadata", "name")
    return fault(
        group.document,
        at,
        "TG200",
        f"CiliumCIDRGroup {group.name} is given twice",
        why=f"it is first given in {first.document.place(at)}; one would replace the other,"
        " depending on the order of files",
    )
