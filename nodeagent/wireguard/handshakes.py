"""When each peer last shook hands, and who has been silent for too long.

In:   observed devices
Out:  times by (device, public key); silent nodes, and who turned so
Pure but for what it keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netpolicy.node_encryption import SILENCE_SECONDS
from nodeagent.wireguard.difference import ObservedDevice
from nodeagent.wireguard.peers import Agreed
from nodeagent.wireguard.tunnels import OwnKey, device_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Nodes that fell silent, and nodes that are heard again."""

    silent: tuple[str, ...]
    heard: tuple[str, ...]


class Handshakes:
    """What was seen last of each device."""

    def __init__(self) -> None:
        self._seen: dict[str, ObservedDevice] = {}
        self._known_since: dict[str, float] = {}
        self._silent: frozenset[str] = frozenset()

    @property
    def latest(self) -> Mapping[tuple[str, str], float]:
        """(device, public key) → when; absent: never."""
        return {
            (name, peer.public_key): peer.handshake_at
            for name, device in self._seen.items()
            for peer in device.peers
            if peer.handshake_at
        }

    @property
    def devices(self) -> tuple[ObservedDevice, ...]:
        """As they were seen last, by name."""
        return tuple(self._seen[name] for name in sorted(self._seen))

    def see(self, device: ObservedDevice) -> None:
        """Note what a device is."""
        self._seen[device.name] = device

    def forget(self, kept: frozenset[str]) -> None:
        """Forget devices that are gone."""
        self._seen = {name: device for name, device in self._seen.items() if name in kept}

    def know(self, agreed: Agreed, *, now: float) -> None:
        """Note who is a peer: nobody is silent before there was time to speak."""
        nodes = {peer.node for peer in agreed.peers}
        self._known_since = {node: self._known_since.get(node, now) for node in nodes}

    def turns(self, agreed: Agreed, own: tuple[OwnKey, ...], *, now: float) -> Turns:
        """Who fell silent, and who was heard again, since this was asked last."""
        before, self._silent = self._silent, frozenset(self.silent(agreed, own, now=now))
        still_peers = {peer.node for peer in agreed.peers}
        return Turns(
            silent=tuple(sorted(self._silent - before)),
            heard=tuple(sorted((before - self._silent) & still_peers)),
        )

    def awaits(self, agreed: Agreed, own: tuple[OwnKey, ...], *, now: float) -> bool:
        """True if a node without a session may have one any moment."""
        unmet = set(self.unmet(agreed, own, now=now))
        return bool(unmet.difference(self.silent(agreed, own, now=now)))

    def silent(self, agreed: Agreed, own: tuple[OwnKey, ...], *, now: float) -> tuple[str, ...]:
        """Nodes without a session that had long enough for one."""
        return tuple(
            node
            for node in self.unmet(agreed, own, now=now)
            if now - self._known_since.get(node, now) >= SILENCE_SECONDS
        )

    def unmet(self, agreed: Agreed, own: tuple[OwnKey, ...], *, now: float) -> tuple[str, ...]:
        """Nodes without a session: no pair of keys has lately shaken hands."""
        latest = self.latest
        return tuple(
            peer.node
            for peer in agreed.peers
            if not any(
                now - latest.get((device_name(mine.slot, key.slot), key.public_key), 0.0)
                < SILENCE_SECONDS
                for mine in own
                for key in peer.keys
            )
        )
