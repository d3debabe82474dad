"""From peers to devices: one tunnel device for each pair of an own key's slot and a peer's.

    device tidegate_wg0   own slot 0, peers' slot 0   UDP port + 0
    device tidegate_wg1   own slot 0, peers' slot 1   UDP port + 1
    device tidegate_wg2   own slot 1, peers' slot 0   UDP port + 2
    device tidegate_wg3   own slot 1, peers' slot 1   UDP port + 3

In:   agreed peers, this node's keys, the settings
Out:  devices with their peers; the place of each pod address; the device each address is sent through
Pure.

A WireGuard device gives an address to one peer only, so two keys of one node cannot both be believed on
one device. With one device a pair, both ends receive under the old and the new key while each changes
over by itself, and no packet of a rotation is lost. Without rotation there is one device.

Holds always:
1. A pair's two ends compute the same pair of ports, whoever rotates.
2. A packet is sent under the newest pair that has lately shaken hands, else under the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from netpolicy.inventory import AddressEntry
from netpolicy.services import is_service
from nodeagent.plan.places import Place
from nodeagent.wireguard.peers import SLOTS, Agreed, canonical

DEVICE_PREFIX: Final = "tidegate_wg"
PORTS: Final = SLOTS * SLOTS
HANDSHAKE_LASTS_SECONDS: Final = 180
"""WireGuard gives up a session after that long without a new handshake."""
KEEPALIVE_SECONDS: Final = 30
"""So that idle peers shake hands within `HANDSHAKE_LASTS_SECONDS`, and one that does not is silent."""
OVERLAP_KEEPALIVE_SECONDS: Final = 3
"""While a peer can be reached by two pairs: so that the new one shakes hands before it is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnKey:
    """A key of this node, but for its private part."""

    slot: int
    public_key: str
    made_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelPeer:
    """A peer as `wg` knows it. `allowed`: the CIDRs that it may send from, sorted."""

    public_key: str
    endpoint: str
    allowed: tuple[str, ...]
    keepalive_seconds: int = KEEPALIVE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelDevice:
    """A device that there should be. `peers` are sorted by public key."""

    own_slot: int
    peer_slot: int
    port: int
    peers: tuple[TunnelPeer, ...]

    @property
    def name(self) -> str:
        """The interface's name."""
        return device_name(self.own_slot, self.peer_slot)

    @property
    def is_over_ipv6(self) -> bool:
        """True if any packet of it travels in IPv6."""
        return any(peer.endpoint.startswith("[") for peer in self.peers)


def device_name(own_slot: int, peer_slot: int) -> str:
    """The interface of a pair of slots."""
    return f"{DEVICE_PREFIX}{own_slot * SLOTS + peer_slot}"


def tunnel_devices(
    agreed: Agreed, own: tuple[OwnKey, ...], *, port: int
) -> tuple[TunnelDevice, ...]:
    """The devices, by name; `port`: the first of this node's. Without peers there is one nonetheless, so that
    what hinders it shows early."""
    pairs: dict[tuple[int, int], list[TunnelPeer]] = {}
    if not agreed.peers:
        pairs = {(key.slot, 0): [] for key in own[:1]}
    for peer in agreed.peers:
        # The node's own as well, whatever the settings: its key vouches for them.
        allowed = tuple(map(host_cidr, (*peer.pods, *peer.addresses)))
        overlaps = len(own) * len(peer.keys) > 1
        for own_key in own:
            for key in peer.keys:
                there = peer.port + key.slot * SLOTS + own_key.slot
                pairs.setdefault((own_key.slot, key.slot), []).append(
                    TunnelPeer(
                        public_key=key.public_key,
                        endpoint=endpoint_text(peer.endpoint, there),
                        allowed=allowed,
                        keepalive_seconds=OVERLAP_KEEPALIVE_SECONDS
                        if overlaps
                        else KEEPALIVE_SECONDS,
                    )
                )
    return tuple(
        TunnelDevice(
            own_slot=own_slot,
            peer_slot=peer_slot,
            port=port + own_slot * SLOTS + peer_slot,
            peers=tuple(sorted(peers, key=lambda peer: peer.public_key)),
        )
        for (own_slot, peer_slot), peers in sorted(pairs.items())
    )


def pod_places(
    agreed: Agreed,
    entries: Iterable[AddressEntry],
    *,
    node: str,
    pod_cidrs: Iterable[str],
    host_addresses: Iterable[str],
    strict: bool,
    node_traffic: bool,
) -> dict[str, Place]:
    """Where each pod is, and with `node_traffic` each node. Outside strict mode, pods that no tunnel leads
    to are left out: they are sent to as if nothing were encrypted."""
    places: dict[str, Place] = {}
    if strict:
        places |= dict.fromkeys(pod_cidrs, Place.UNREACHABLE)
    for entry in entries:
        if not entry.namespace:
            places[host_cidr(canonical(entry.address))] = Place.NO_POD
    for entry in entries:
        if entry.namespace and strict and entry.node != node:
            places[host_cidr(canonical(entry.address))] = Place.UNREACHABLE
    for peer in agreed.peers:
        places |= {host_cidr(address): Place.TUNNEL for address in peer.pods}
        if node_traffic:
            places |= {host_cidr(address): Place.NODE for address in peer.addresses}
    for entry in entries:
        if entry.namespace and entry.node == node:
            places[host_cidr(canonical(entry.address))] = Place.HERE
    places |= {host_cidr(canonical(address)): Place.NO_POD for address in host_addresses}
    # Last: kube-proxy may put the services' addresses on an interface of the host.
    for entry in entries:
        if not entry.namespace and is_service(entry.labels):
            places[host_cidr(canonical(entry.address))] = Place.SERVICE
    return places


def senders(
    agreed: Agreed,
    own: tuple[OwnKey, ...],
    handshakes: Mapping[tuple[str, str], float],
    *,
    now: float,
) -> dict[str, str]:
    """Peer's node → the device that its packets are sent through.

    `handshakes`: when a (device, public key) last shook hands.
    """
    found = {}
    for peer in agreed.peers:
        pairs = [
            (device_name(own_key.slot, key.slot), key.public_key)
            for own_key in own
            for key in peer.keys
        ]
        alive = (p for p in pairs if now - handshakes.get(p, 0.0) < HANDSHAKE_LASTS_SECONDS)
        found[peer.node] = next(alive, pairs[0])[0]
    return found


def endpoint_text(address: str, port: int) -> str:
    """An endpoint as `wg` writes it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def host_cidr(address: str) -> str:
    """The block of one address."""
    return f"{address}/{128 if ':' in address else 32}"
