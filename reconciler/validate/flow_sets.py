"""Peers and ports as sets of flows: does one rule take in all, or any, of what another does?

In:   compiled rules, with the spaces of their selectors
Out:  PeerSet; whether one covers another, and whether two may share a flow
Pure.

Holds always:
1. `covers` is true only if no flow could show otherwise.
2. `may_share` is false only if no flow could be in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from netpolicy.labels import RESERVED_SOURCE
from netpolicy.rules import LAST_PORT, CidrBlock, NamePattern, Peers, Ports, ServicePeer
from reconciler.validate.selector_sets import LabelSpace, ValueSpace, label_space

Network = IPv4Network | IPv6Network

_PRESENT: Final = ValueSpace(may_be_absent=False)


@dataclass(frozen=True, slots=True)
class PeerSet:
    """The peers of one rule; `spaces=None` means anyone, and then the rest is empty."""

    spaces: tuple[LabelSpace, ...] | None
    blocks: tuple[CidrBlock, ...] = ()
    names: tuple[NamePattern, ...] = ()
    services: tuple[ServicePeer, ...] = ()

    @property
    def is_anyone(self) -> bool:
        """True if no one is left out."""
        return self.spaces is None or any(not space.keys for space in self.spaces)

    def covers(self, other: PeerSet) -> bool:
        """True if every peer of the other is one of these."""
        if self.is_anyone:
            return True
        if self.spaces is None or other.spaces is None:
            return self.spaces is None
        return (
            all(any(space.is_inside(mine) for mine in self.spaces) for space in other.spaces)
            and all(self._covers_block(block) for block in other.blocks)
            and (self._has_world("world") or set(other.names) <= set(self.names))
            and set(other.services) <= set(self.services)
        )

    def _covers_block(self, block: CidrBlock) -> bool:
        family = "world-ipv6" if ":" in block.cidr else "world-ipv4"
        if self._has_world("world") or self._has_world(family):
            return True
        return any(_holds(mine, block) for mine in self.blocks)

    def _has_world(self, entity: str) -> bool:
        """True if this whole entity is among the peers."""
        wanted = (RESERVED_SOURCE, entity)
        return any(
            set(space.keys) == {wanted} and space.keys[wanted] == _PRESENT
            for space in self.spaces or ()
        )

    def may_share_any(self, other: PeerSet) -> bool:
        """False if no one is among both peers."""
        if self.is_anyone or other.is_anyone or self.services or other.services:
            return True
        if any(self.may_share(space) for space in other.spaces or ()):
            return True
        return (self._is_outside and other._names_outside) or (
            other._is_outside and self._names_outside
        )

    @property
    def _names_outside(self) -> bool:
        """True if addresses or DNS names are among the peers."""
        return bool(self.blocks or self.names)

    @property
    def _is_outside(self) -> bool:
        """True if any part of the world may be among the peers."""
        return self._names_outside or any(not space.is_pod for space in self.spaces or ())

    def may_share(self, space: LabelSpace) -> bool:
        """False if no endpoint of that space is one of these. Services may stand for any pod."""
        if self.spaces is None or self.services:
            return True
        return any(mine.may_meet(space) for mine in self.spaces)


def peer_set(peers: Peers | None) -> PeerSet:
    """The peers of a compiled rule."""
    if peers is None:
        return PeerSet(None)
    return PeerSet(
        tuple(label_space(selector) for selector in peers.selectors),
        peers.cidrs,
        peers.fqdns,
        peers.services,
    )


def ports_cover(mine: tuple[Ports, ...] | None, others: tuple[Ports, ...] | None) -> bool:
    """True if every port of the others is one of mine."""
    if mine is None:
        return True
    return others is not None and all(
        any(_range_covers(port, other) for port in mine) for other in others
    )


def ports_may_share(mine: tuple[Ports, ...] | None, others: tuple[Ports, ...] | None) -> bool:
    """False if no port is in both. A port's name may stand for any number of its protocol."""
    if mine is None or others is None:
        return True
    return any(_ranges_meet(port, other) for port in mine for other in others)


def network_of(cidr: str) -> Network:
    """The block that a canonical text stands for."""
    return ip_network(cidr)


def block_is_used_up(block: CidrBlock) -> bool:
    """True if the exceptions leave no address of the block."""
    if (
        all(_prefix(hole) > _prefix(block.cidr) for hole in block.excepts[:1])
        and not block.excepts[1:]
    ):
        return False  # one exception that is smaller leaves something: the usual case, told at once
    whole = network_of(block.cidr)
    return _cover_whole(whole, [network_of(hole) for hole in block.excepts])


def _prefix(cidr: str) -> int:
    return int(cidr.rpartition("/")[2])


def _cover_whole(whole: Network, holes: Iterable[Network]) -> bool:
    inside = sorted(
        (hole for hole in holes if hole.version == whole.version and hole.overlaps(whole)),
        key=lambda hole: int(hole.network_address),
    )
    reached = int(whole.network_address)
    for hole in inside:
        if int(hole.network_address) > reached:
            return False
        reached = max(reached, int(hole.broadcast_address) + 1)
    return reached > int(whole.broadcast_address)


def _holds(mine: CidrBlock, other: CidrBlock) -> bool:
    """True if every address of the other block is one of mine."""
    outer, inner = network_of(mine.cidr), network_of(other.cidr)
    if outer.version != inner.version or not inner.subnet_of(outer):  # type: ignore[arg-type]
        return False
    holes = [network_of(hole) for hole in mine.excepts]
    return set(mine.excepts) <= set(other.excepts) or not any(
        hole.version == inner.version and hole.overlaps(inner) for hole in holes
    )


def _range_covers(mine: Ports, other: Ports) -> bool:
    if mine.protocol != other.protocol:
        return False
    if other.name:
        is_every_port = not mine.name and mine.first <= 1 and mine.last == LAST_PORT
        return is_every_port or mine.name == other.name
    return not mine.name and mine.first <= other.first and other.last <= mine.last


def _ranges_meet(mine: Ports, other: Ports) -> bool:
    if mine.protocol != other.protocol:
        return False
    if mine.name or other.name:
        return True
    return mine.first <= other.last and other.first <= mine.last
