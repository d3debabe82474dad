"""From the device there is to the one there should be, in as few steps as disturb as few peers.

In:   what `wg` shows of a device, what it should be
Out:  steps, in order
Pure.

Holds always:
1. A peer that is right already is not touched: setting it again would leave its addresses without a peer
   for a moment.
2. Where a peer roamed to while its session lives is left to it.
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
class SetPeers:
    """Add these peers, or change them."""

    name: str
    peers: tuple[TunnelPeer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePeers:
    """Remove these peers."""

    name: str
    public_keys: tuple[str, ...]


Step = Configure | SetPeers | RemovePeers


def steps(
    observed: ObservedDevice, wanted: TunnelDevice, *, public_key: str, now: float
) -> tuple[Step, ...]:
    """What makes the device what it should be. `public_key`: of the key that it should have."""
    if (observed.public_key, observed.port, observed.mark) != (
        public_key, wanted.port, FIREWALL_MARK,
    ):  # fmt: skip
        return (Configure(device=wanted),)
    held = {peer.public_key: peer for peer in observed.peers}
    gone = tuple(sorted(held.keys() - {peer.public_key for peer in wanted.peers}))
    changed = tuple(p for p in wanted.peers if not _is_right(held.get(p.public_key), p, now))
    # Removed first: an address that moved is taken from its old peer with it, not from its new one.
    found: list[Step] = []
    if gone:
        found.append(RemovePeers(name=wanted.name, public_keys=gone))
    if changed:
        found.append(SetPeers(name=wanted.name, peers=changed))
    return tuple(found)


def _is_right(held: ObservedPeer | None, wanted: TunnelPeer, now: float) -> bool:
    if held is None:
        return False
    lives = now - held.handshake_at < HANDSHAKE_LASTS_SECONDS
    return (
        held.allowed == frozenset(wanted.allowed)
        and held.keepalive_seconds == wanted.keepalive_seconds
        and (lives or held.endpoint == wanted.endpoint)
    )
