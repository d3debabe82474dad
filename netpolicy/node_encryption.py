"""What a node says of its encryption: its public keys, and how its tunnels are.

In:   told by the agent, carried by the push channel
Out:  keys for the other nodes, health for the rollout's gates, `tidegate encrypt status`
Pure.

Holds always:
1. A report replaces the node's earlier one whole: a lost report loses nothing.
2. A private key has no place in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from netpolicy.encryption import NodeKey

SILENCE_SECONDS: Final = 180
"""A peer without a handshake for so long is silent: WireGuard gives up a session after as long."""

MAX_SILENT_PEERS: Final = 100
"""Peers that a report names; a node without any tunnel is as clear with a hundred as with thousands."""


class EncryptionMode(StrEnum):
    """What a node does about encryption."""

    OFF = "off"
    PREPARED = "prepared"
    """It has a key, and tunnels to the nodes that encrypt; what it enforces does not ask for them."""
    ON = "on"
    STRICT = "strict"

    @property
    def is_in_force(self) -> bool:
        """True if the node encrypts what it sends to any node that can read it."""
        return self in (EncryptionMode.ON, EncryptionMode.STRICT)


class Implementation(StrEnum):
    """Who runs the tunnels."""

    NONE = ""
    KERNEL = "kernel"
    USERSPACE = "userspace"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEncryption:
    """One node's report.

    `keys`: its own, the newest first. `peers`: nodes it has tunnels to; `unmet_peers`: those of them
    without a session, as they never shook hands or not for `SILENCE_SECONDS`; `silent_peers`: those that
    had so long to. `error`: why what is wanted is not brought about.
    """

    node: str
    mode: EncryptionMode = EncryptionMode.OFF
    implementation: Implementation = Implementation.NONE
    keys: tuple[NodeKey, ...] = ()
    peers: int = 0
    silent_peers: tuple[str, ...] = ()
    unmet_peers: tuple[str, ...] = ()
    error: str = ""
