"""Decide whose public keys are given to the other nodes.

In:   what each node says of its keys, Places of the inventory
Out:  Admitted: keys by node, and why a node's word was refused
Pure.

Holds always:
1. A key belongs to the node that announced it first; no other node gets it admitted.
2. A node's packets are sent to addresses that the inventory gives to it and to no other node or its pods.
3. A node whose word is refused keeps the keys that were admitted before, as long as these would be still.
4. The order in which nodes are looked at changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

from netpolicy.encryption import NodeKey
from netpolicy.node_encryption import NodeEncryption
from reconciler.encryption.places import Places

NOT_LISTED: Final = "it is not a node of the inventory"

Keys = tuple[NodeKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A node's last word. `heard_at`: when each of its keys was first heard of; `good`: those that were
    admitted last."""

    said: NodeEncryption
    heard_at: Mapping[str, float] = field(default_factory=dict)
    good: Keys = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """The keys that count, of nodes that have any; and node → why its word was refused."""

    keys: Mapping[str, Keys] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def heard(before: Claim | None, said: NodeEncryption, *, now: float) -> Claim:
    """The claim after a node's new word: keys that it had keep the time at which they were heard of."""
    known = before.heard_at if before else {}
    times = {key.public_key: known.get(key.public_key, now) for key in said.keys}
    for key in before.good if before else ():
        times.setdefault(key.public_key, known.get(key.public_key, now))
    return Claim(said=said, heard_at=times, good=before.good if before else ())


def admit(claims: Iterable[Claim], places: Places) -> Admitted:
    """Whose keys count."""
    held = tuple(claims)
    firsts = _first_owners(held)
    keys: dict[str, Keys] = {}
    refused: dict[str, str] = {}
    for claim in held:
        node = claim.said.node
        placed, fault = _placed(node, claim.said.keys, places, firsts)
        if fault:
            refused[node] = fault
            in_force = claim.said.mode.is_in_force
            kept = tuple(replace(key, in_force=in_force) for key in claim.good)
            placed, _ = _placed(node, kept, places, firsts)
        if placed:
            keys[node] = placed
    return Admitted(keys=keys, refused=refused)


def asked_for(claims: Iterable[Claim], places: Places) -> frozenset[str]:
    """The addresses on whose places `admit` hangs."""
    named = (key.addresses for claim in claims for key in (*claim.said.keys, *claim.good))
    return frozenset(chain.from_iterable((*places.own.values(), *named)))


def _first_owners(claims: Iterable[Claim]) -> Mapping[str, str]:
    """Key → the node that announced it first."""
    first: dict[str, tuple[float, str]] = {}
    for claim in claims:
        for key, at in claim.heard_at.items():
            here = (at, claim.said.node)
            first[key] = min(first.get(key, here), here)
    return {key: node for key, (_, node) in first.items()}


def _placed(node: str, keys: Keys, places: Places, firsts: Mapping[str, str]) -> tuple[Keys, str]:
    """The keys with the addresses that their packets go to; or none of them, and why."""
    if node not in places.own:
        return (), NOT_LISTED
    placed = []
    for key in keys:
        owner = firsts.get(key.public_key, node)
        addresses = key.addresses or places.own[node]
        fault = (
            f"its public key is that of {owner}"
            if owner != node
            else _address_fault(node, addresses, places)
        )
        if fault:
            return (), fault
        placed.append(replace(key, addresses=addresses))
    return tuple(placed), ""


def _address_fault(node: str, addresses: tuple[str, ...], places: Places) -> str:
    if not addresses:
        return "neither it nor the inventory names an address of it"
    for address in addresses:
        others = places.holders(address) - {node}
        if others:
            return f"its address {address} is that of {min(others)}"
        if places.own[node] and address not in places.own[node]:
            return f"its address {address} is not one that the inventory gives to it"
    return ""
