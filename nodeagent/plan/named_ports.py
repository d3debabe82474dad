"""Put numbers in the place of port names.

In:   policies; the identities of the cluster; the labels of a pod of this node
Out:  the same policies by number
Pure. Which port a pod gives a name is among the labels of its identity (`netpolicy.ends.port_label`).

Holds always:
1. A name means the destination pod's port: on ingress the pod's own, on egress each peer's.
2. A name that a pod does not declare matches none of its ports, and never every port.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from netpolicy.ends import port_key
from netpolicy.labels import PORT_SOURCE, Labels, Requirement, Selector, equals, selector
from netpolicy.rules import LAST_PORT, Direction, Peers, Policy, Ports, Rule

Declared = Mapping[str, frozenset[int]]


def resolve_peers_ports(
    policies: Iterable[Policy], identities: Mapping[int, Labels]
) -> tuple[Policy, ...]:
    """The policies with egress by number: one rule for each port that peers give a name."""
    given = tuple(policies)
    if not any(_has_names(rule, Direction.EGRESS) for policy in given for rule in policy.rules):
        return given
    declared = _declared(identities.values())
    return tuple(
        replace(
            policy,
            rules=tuple(part for rule in policy.rules for part in _by_peer(rule, declared)),
        )
        for policy in given
    )


def names_own_ports(policy: Policy) -> bool:
    """True if the policy means different ports in pods that name them differently."""
    return any(_has_names(rule, Direction.INGRESS) for rule in policy.rules)


def resolve_own_ports(policy: Policy, own: Labels) -> Policy:
    """The policy with ingress by number, for a pod with these labels."""
    if not names_own_ports(policy):
        return policy
    declared = _declared([own])
    return replace(policy, rules=tuple(_by_number(rule, declared) for rule in policy.rules))


def own_port_labels(labels: Labels) -> Labels:
    """Those of a pod's labels that tell its named ports."""
    return Labels(label for label in labels if label.source == PORT_SOURCE)


def _has_names(rule: Rule, direction: Direction) -> bool:
    return rule.direction is direction and any(ports.name for ports in rule.ports or ())


def _declared(label_sets: Iterable[Labels]) -> Declared:
    """Under each label key of a named port, the numbers it has."""
    found: defaultdict[str, set[int]] = defaultdict(set)
    for labels in label_sets:
        for label in labels:
            if label.source == PORT_SOURCE and (number := _port_number(label.value)):
                found[label.key].add(number)
    return {key: frozenset(numbers) for key, numbers in found.items()}


def _port_number(text: str) -> int:
    """The port, or 0 for what is none: labels come from the feed, which may say anything."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if number <= LAST_PORT else 0


def _by_number(rule: Rule, declared: Declared) -> Rule:
    if not _has_names(rule, Direction.INGRESS):
        return rule
    ports = {number for ports in rule.ports or () for number in _numbered(ports, declared)}
    return replace(rule, ports=tuple(sorted(ports)))


def _numbered(ports: Ports, declared: Declared) -> Iterator[Ports]:
    if not ports.name:
        yield ports
        return
    for number in declared.get(port_key(ports.protocol, ports.name), ()):
        yield Ports(protocol=ports.protocol, first=number, last=number)


def _by_peer(rule: Rule, declared: Declared) -> Iterator[Rule]:
    """The rule for its numbered ports; then for each named port the peers that give it a number."""
    if not _has_names(rule, Direction.EGRESS):
        yield rule
        return
    ports = rule.ports or ()
    if numbered := tuple(one for one in ports if not one.name):
        yield replace(rule, ports=numbered)
    for one in ports:
        if one.name:
            key = port_key(one.protocol, one.name)
            for number in sorted(declared.get(key, ())):
                yield replace(
                    rule,
                    peers=_calling(rule.peers, equals(key, str(number), source=PORT_SOURCE)),
                    ports=(Ports(protocol=one.protocol, first=number, last=number),),
                )


def _calling(peers: Peers | None, requirement: Requirement) -> Peers:
    """Those of the peers that give the port this number: pods only, so no block of addresses."""
    chosen = (Selector(),) if peers is None else peers.selectors
    return Peers(selectors=tuple(selector([*s.requirements, requirement]) for s in chosen))
