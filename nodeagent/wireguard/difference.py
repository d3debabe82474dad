"""From the device there is to the one there should be, in as few steps as disturb as few peers.

In:   what `wg` shows of a device, what it should be
Out:  steps, in order
Pure.

Holds always:
1. A peer that is right already is not touched: setting it again would leave its addresses without a peer
   for a moment. Another port leaves all of them.
2. Where a peer roamed to while its session lives is left to it, until it announces another place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nodeagent.wireguard.tunnels import HANDSHAKE_LASTS_SECONDS, TunnelDevice, TunnelPeer

FIREWALL_MARK: Final = 0x0F00
"""Of the tunnels' own packets: they never enter a tunnel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedPeer:
    """A peer as `wg` shows it; `endpoint` is empty if none is known."""

    public_key: str
    endpoint: str = ""
    allowed: frozenset[str] = frozenset()
    handshake_at: float = 0.0
    received_bytes: int = 0
    sent_bytes: int = 0
    keepalive_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedDevice:
    """A device as `wg` shows it, but for its private key."""

    name: str
    public_key: str
    port: int
    mark: int
    peers: tuple[ObservedPeer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Set the whole device: key, port, mark, and exactly these peers."""

    device: TunnelDevice


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Listen on another port, and let these peers know by a packet from there."""

    name: str
    port: int
    peers: tuple[TunnelPeer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPeers:
    """Add these peers, or change them."""

    name: str
    peers: tuple[TunnelPeer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePeers:
    """Remove these peers."""

    name: str
    public_keys: tuple[str, ...]


Step = Configure | Move | SetPeers | RemovePeers


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A device that there should be. `public_key`: of the key that it should have; `before`: what it was
    made to be last, if this agent did."""

    device: TunnelDevice
    public_key: str
    before: TunnelDevice | None = None


def steps(observed: ObservedDevice, wanted: Wanted, *, now: float) -> tuple[Step, ...]:
    """What makes the device what it should be."""
    device = wanted.device
    if (observed.public_key, observed.mark) != (wanted.public_key, FIREWALL_MARK):
        return (Configure(device=device),)
    held = {peer.public_key: peer for peer in observed.peers}
    told = {p.public_key: p.endpoint for p in wanted.before.peers} if wanted.before else {}
    gone = tuple(sorted(held.keys() - {peer.public_key for peer in device.peers}))
    changed = tuple(
        peer
        for peer in device.peers
        if not _is_right(held.get(peer.public_key), peer, told.get(peer.public_key), now)
    )
    found: list[Step] = []
    if observed.port != device.port:
        kept = tuple(peer for peer in device.peers if peer.public_key in held)
        found.append(Move(name=device.name, port=device.port, peers=kept))
    # Removed first: an address that moved is taken from its old peer with it, not from its new one.
    if gone:
        found.append(RemovePeers(name=device.name, public_keys=gone))
    if changed:
        found.append(SetPeers(name=device.name, peers=changed))
    return tuple(found)


def _is_right(held: ObservedPeer | None, wanted: TunnelPeer, told: str | None, now: float) -> bool:
    """`told`: the endpoint that it was given last."""
    if held is None:
        return False
    may_roam = told in (None, wanted.endpoint)
    lives = may_roam and now - held.handshake_at < HANDSHAKE_LASTS_SECONDS
    return (
        held.allowed == frozenset(wanted.allowed)
        and held.keepalive_seconds == wanted.keepalive_seconds
        and (lives or held.endpoint == wanted.endpoint)
    )
