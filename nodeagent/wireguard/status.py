"""What `nodeagent encrypt status` shows of the tunnels.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpolicy.node_encryption import EncryptionMode, Implementation
from nodeagent.wireguard.difference import ObservedDevice
from nodeagent.wireguard.peers import Agreed
from nodeagent.wireguard.tunnels import OwnKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """One pair of keys: the device it is on, and how it is. `handshake_at` zero: never."""

    node: str
    device: str
    public_key: str
    endpoint: str
    addresses: int
    handshake_at: float
    received_bytes: int
    sent_bytes: int
    is_sending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelStatus:
    """The node's side of encryption."""

    mode: EncryptionMode = EncryptionMode.OFF
    implementation: Implementation = Implementation.NONE
    port: int = 0
    keys: tuple[OwnKey, ...] = ()
    tunnels: tuple[Tunnel, ...] = ()
    silent: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()


def tunnels_of(
    agreed: Agreed, devices: tuple[ObservedDevice, ...], senders: dict[str, str]
) -> tuple[Tunnel, ...]:
    """Each tunnel with the node it leads to, by node."""
    nodes = {key.public_key: peer.node for peer in agreed.peers for key in peer.keys}
    found = (
        Tunnel(
            node=nodes.get(peer.public_key, ""),
            device=device.name,
            public_key=peer.public_key,
            endpoint=peer.endpoint,
            addresses=len(peer.allowed),
            handshake_at=peer.handshake_at,
            received_bytes=peer.received_bytes,
            sent_bytes=peer.sent_bytes,
            is_sending=senders.get(nodes.get(peer.public_key, "")) == device.name,
        )
        for device in devices
        for peer in device.peers
    )
    return tuple(sorted(found, key=lambda tunnel: (tunnel.node, tunnel.device)))
