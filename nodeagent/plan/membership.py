"""Which identities the peers of a rule mean.

In:   the node's identities (number → labels), Peers
Out:  bitmaps of identity numbers
Pure.

Holds always:
1. An identity is a member exactly if `netpolicy.evaluate.peers_match` says so of every address
   that stands behind it.
2. An identity made for a block of outside addresses is matched by selectors as the world is.

An address has the identity of the longest known prefix that covers it, and every `cidr` and `except`
of the policies is a known prefix. So a prefix inside a block, and outside its exceptions, lies there
with all addresses that carry its identity; any other prefix has none of them there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from pyroaring import BitMap

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.labels import ANY_SOURCE, Labels, Operator, Requirement, Selector
from netpolicy.rules import CidrBlock, Peers

CIDR_SOURCE: Final = "cidr"
WORLD_PREFIXES: Final = {
    "0.0.0.0/0": ReservedIdentity.WORLD_IPV4,
    "::/0": ReservedIdentity.WORLD_IPV6,
}
"""The two prefixes that always stand; their identities are reserved ones."""


@dataclass(frozen=True, slots=True, order=True)
class _Prefix:
    """A block of addresses as a range of numbers, and the identity behind it."""

    first: int
    last: int
    identity: int


class Membership:
    """Answers which identities match, from an index of labels and of prefixes."""

    __slots__ = ("_all", "_by_key", "_by_value", "_cache", "_prefixes")

    def __init__(self, identities: Mapping[int, Labels]) -> None:
        self._all = BitMap(identities)
        self._by_key: defaultdict[tuple[str, str], BitMap] = defaultdict(BitMap)
        self._by_value: defaultdict[tuple[str, str, str], BitMap] = defaultdict(BitMap)
        self._cache: dict[Selector, BitMap] = {}
        prefixes: dict[int, list[_Prefix]] = {4: [], 6: []}
        for number, labels in identities.items():
            block = prefix_behind(number, labels)
            self._index(number, labels if block is None else _world_of(block))
            if block is not None:
                prefixes[block.version].append(_range(block, number))
        self._prefixes = {version: sorted(found) for version, found in prefixes.items()}

    def members(self, peers: Peers) -> BitMap:
        """The identities that any selector or any block of the peers matches."""
        found = BitMap()
        for selector in peers.selectors:
            found |= self.selected(selector)
        for block in peers.cidrs:
            found |= self._inside(block)
        return found

    def selected(self, selector: Selector) -> BitMap:
        """The identities that meet every requirement of the selector."""
        if selector not in self._cache:
            found = self._all
            for requirement in selector.requirements:
                found = found & self._meeting(requirement)
            self._cache[selector] = found
        return self._cache[selector]

    def _index(self, number: int, labels: Labels) -> None:
        for label in labels:
            for source in (label.source, ANY_SOURCE):
                value = labels.get(source, label.key)
                self._by_key[source, label.key].add(number)
                self._by_value[source, label.key, value or ""].add(number)

    def _meeting(self, requirement: Requirement) -> BitMap:
        source, key = requirement.source, requirement.key
        having = self._by_key.get((source, key), BitMap())
        listed = BitMap()
        for value in requirement.values:
            listed |= self._by_value.get((source, key, value), BitMap())
        match requirement.operator:
            case Operator.IN:
                return listed
            case Operator.NOT_IN:
                return self._all - listed
            case Operator.EXISTS:
                return having
            case Operator.DOES_NOT_EXIST:
                return self._all - having

    def _inside(self, block: CidrBlock) -> BitMap:
        found = self._within(block.cidr)
        for hole in block.excepts:
            found -= self._within(hole)
        return found

    def _within(self, cidr: str) -> BitMap:
        network = ip_network(cidr)
        prefixes = self._prefixes[network.version]
        first, last = int(network.network_address), int(network.broadcast_address)
        start = bisect_left(prefixes, first, key=lambda prefix: prefix.first)
        stop = bisect_right(prefixes, last, key=lambda prefix: prefix.first)
        return BitMap(p.identity for p in prefixes[start:stop] if p.last <= last)


def prefix_behind(number: int, labels: Labels) -> IPv4Network | IPv6Network | None:
    """The block of outside addresses that an identity stands for, if it is such a one."""
    for cidr, world in WORLD_PREFIXES.items():
        if number == world:
            return ip_network(cidr)
    for label in labels:
        if label.source == CIDR_SOURCE:
            return ip_network(label.key)
    return None


def matches_everyone(peers: Peers | None) -> bool:
    """True if no identity can fail to match: any peer, or a selector without requirements."""
    return peers is None or any(not selector.requirements for selector in peers.selectors)


def blocks_of(peers: Iterable[Peers | None]) -> frozenset[str]:
    """Every prefix that these peers tell apart: blocks and their exceptions, canonical."""
    return frozenset(
        cidr
        for some in peers
        if some is not None
        for block in some.cidrs
        for cidr in (block.cidr, *block.excepts)
    )


def _world_of(block: IPv4Network | IPv6Network) -> Labels:
    return RESERVED_LABELS[WORLD_PREFIXES["0.0.0.0/0" if block.version == 4 else "::/0"]]


def _range(block: IPv4Network | IPv6Network, number: int) -> _Prefix:
    return _Prefix(int(block.network_address), int(block.broadcast_address), number)
