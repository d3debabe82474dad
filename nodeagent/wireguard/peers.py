"""Which nodes to have tunnels to, and what lies behind each: what is contradictory is not believed.

In:   the keys that nodes announced, who is behind which address, this node's own addresses
Out:  Agreed: peers, and what was refused
Pure.

Holds always:
1. No public key and no address belongs to two peers; none of this node's own belongs to any.
2. A node whose keys make no sense keeps those that it had; what two nodes claim stays with the one that
   had it, else nobody gets it. Everything refused is said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from netpolicy.encryption import NodeKey, is_public_key
from netpolicy.inventory import AddressEntry
from netpolicy.node_encryption import EncryptionMode

SLOTS: Final = 2
"""A node that rotates has an old and a new key: each has a slot, and ports of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerKey:
    """A public key, and the slot that it holds on its node."""

    slot: int
    public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A node at the other end. `keys`: the newest first; `endpoint`: the address its tunnels listen on,
    `port` the first of their ports; `in_force`: it encrypts, and may refuse what is in the clear; `pods`
    and `addresses`: of the pods there, and the node's own."""

    node: str
    keys: tuple[PeerKey, ...]
    endpoint: str
    port: int
    in_force: bool = True
    pods: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the cluster. `own_keys`: the public ones of this node; `own_addresses`: the
    node's and its pods'."""

    node: str
    node_keys: tuple[NodeKey, ...] = ()
    entries: tuple[AddressEntry, ...] = ()
    own_keys: frozenset[str] = frozenset()
    own_addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """The peers, sorted by node, and what is wrong with what was told of them."""

    peers: tuple[Peer, ...] = ()
    refused: tuple[str, ...] = ()


def agree(known: Known, before: Agreed | None = None) -> Agreed:
    """Find the peers. `before`: those in use, which win where claims contradict each other."""
    held = {peer.node: peer for peer in before.peers} if before else {}
    refused: list[str] = []
    announced = defaultdict[str, list[NodeKey]](list)
    for key in known.node_keys:
        if key.node != known.node:
            announced[key.node].append(key)
    shared = _repeated(key.public_key for key in known.node_keys)
    peers = []
    for node, keys in sorted(announced.items()):
        fault = _fault(keys, known, shared)
        if fault:
            refused.append(f"{node}: {fault}")
        peer = held.get(node) if fault else _peer(node, keys, known)
        if peer is not None:
            peers.append(replace(peer, pods=(), addresses=()))
    owners = _owners(known, held, refused)
    return Agreed(peers=_with_addresses(peers, owners, known), refused=tuple(refused))


def sent_to(agreed: Agreed, mode: EncryptionMode) -> Agreed:
    """The peers that packets are sent to through a tunnel: all, if this node encrypts; else those that do.

    The tunnels to the others stand ready: a handshake takes seconds if it is begun too early for the
    other end, and connections would wait for it.
    """
    if mode.is_in_force:
        return agreed
    return replace(agreed, peers=tuple(peer for peer in agreed.peers if peer.in_force))


def _fault(keys: list[NodeKey], known: Known, shared: frozenset[str]) -> str:
    if len(keys) > SLOTS or len({key.slot for key in keys}) != len(keys):
        return "its keys are too many, or share a slot"
    if len({key.port for key in keys}) > 1:
        return "its keys name different ports"
    for key in keys:
        if not is_public_key(key.public_key):
            return "a public key is none"
        if key.public_key in shared:
            return "another node announced the same public key"
        if key.public_key in known.own_keys:
            return "it announced a public key of this node"
        if not key.addresses or known.own_addresses.intersection(map(canonical, key.addresses)):
            return "it has no address, or one of this node's"
    return ""


def _peer(node: str, keys: list[NodeKey], known: Known) -> Peer:
    newest_first = sorted(keys, key=lambda key: (-key.made_at, key.public_key))
    return Peer(
        node=node,
        keys=tuple(PeerKey(slot=key.slot, public_key=key.public_key) for key in newest_first),
        port=newest_first[0].port,
        endpoint=_endpoint(newest_first[0].addresses, known.own_addresses),
        in_force=any(key.in_force for key in keys),
    )


def _endpoint(addresses: tuple[str, ...], own: frozenset[str]) -> str:
    """The first that is of a family that this node speaks, too."""
    families = {":" in address for address in own}
    speakable = (a for a in addresses if not families or (":" in a) in families)
    return canonical(next(speakable, addresses[0]))


def _owners(known: Known, held: Mapping[str, Peer], refused: list[str]) -> Mapping[str, str]:
    """The node that each foreign address belongs to."""
    claims = defaultdict[str, set[str]](set)
    for entry in known.entries:
        if entry.node:
            claims[canonical(entry.address)].add(entry.node)
    had = {a: peer.node for peer in held.values() for a in (*peer.pods, *peer.addresses)}
    owners = {}
    for address, nodes in claims.items():
        if address in known.own_addresses:
            if nodes - {known.node}:
                refused.append(f"{address}: this node's, and claimed by {_listed(nodes)}")
        elif len(nodes) == 1:
            owners[address] = next(iter(nodes))
        else:
            refused.append(f"{address}: claimed by {_listed(nodes)}")
            if had.get(address) in nodes:
                owners[address] = had[address]
    return owners


def _with_addresses(peers: list[Peer], owners: Mapping[str, str], known: Known) -> tuple[Peer, ...]:
    pods = {canonical(entry.address) for entry in known.entries if entry.namespace}
    of_pods, of_nodes = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for address, node in sorted(owners.items()):
        (of_pods if address in pods else of_nodes)[node].append(address)
    return tuple(
        replace(peer, pods=tuple(of_pods[peer.node]), addresses=tuple(of_nodes[peer.node]))
        for peer in peers
    )


def _repeated(keys: Iterable[str]) -> frozenset[str]:
    return frozenset(key for key, count in Counter(keys).items() if count > 1)


def _listed(nodes: Iterable[str]) -> str:
    return ", ".join(sorted(nodes))


@lru_cache(maxsize=1 << 18)
def canonical(address: str) -> str:
    """The one spelling of an address: claims are compared as text."""
    return str(ip_address(address))
