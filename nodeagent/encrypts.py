"""Who encrypts on this node, as the planner and the channel to the reconciler see it.

In:   what a node is to bring about
Out:  done, or StalledError; a report
A protocol, and the implementation of a node that cannot encrypt. `nodeagent.wireguard` has the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry
from netpolicy.node_encryption import EncryptionMode, NodeEncryption
from nodeagent.rollout.encryption import Encrypting

NO_ENCRYPTION: Final = "NoEncryption"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptionInputs:
    """What tunnels are made from. `entries`: who is behind which address, and on which node;
    `node_addresses`: this node's own."""

    encrypting: Encrypting
    entries: tuple[AddressEntry, ...] = ()
    node_addresses: tuple[str, ...] = ()


class Encrypts(Protocol):
    """Brings encryption about on one node."""

    async def bring_about(self, inputs: EncryptionInputs) -> None:
        """Encrypt so from now on; called again with every change, one call at a time.

        Raises StalledError or TransientError if it cannot be: then what was encrypted before still is,
        and nothing that was refused in the clear passes.
        """

    def report(self) -> NodeEncryption:
        """How it stands; must not block. The keys in it are announced to the other nodes."""


class EncryptsNothing:
    """A node that cannot encrypt: whoever asks it to learns that it does not."""

    def __init__(self, node: str) -> None:
        self._node = node

    async def bring_about(self, inputs: EncryptionInputs) -> None:
        """Refuse anything but no encryption."""
        if inputs.encrypting.mode is not EncryptionMode.OFF:
            raise StalledError("this agent cannot encrypt", reason=NO_ENCRYPTION)

    def report(self) -> NodeEncryption:
        """No keys, no tunnels."""
        return NodeEncryption(node=self._node)
