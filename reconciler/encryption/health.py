"""Which nodes are not well with their encryption, for the gates of a rollout.

In:   what nodes say of their encryption, who is connected
Out:  node → what is wrong; node → what it still waits for
Pure.

Holds always:
1. A peer that is gone is no fault of a revision: only silence towards a connected agent counts.
2. A node that encrypts is not done before it has a session with every connected node that can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from netpolicy.node_encryption import SILENCE_SECONDS, EncryptionMode, NodeEncryption

MAX_NAMED: Final = 3


def unwell(
    said: Iterable[NodeEncryption], *, refused: Mapping[str, str], connected: Set[str]
) -> dict[str, str]:
    """Node → why the gates should stop a revision that changes encryption."""
    found = {node: f"its public keys are refused: {why}" for node, why in refused.items()}
    for one in said:
        silent = sorted(connected & set(one.silent_peers))
        if one.error:
            found[one.node] = f"encryption: {one.error}"
        elif silent and one.node not in found:
            found[one.node] = f"no handshake for {SILENCE_SECONDS} seconds with {_named(silent)}"
    return found


def awaiting(
    said: Iterable[NodeEncryption], *, keyed: Set[str], connected: Set[str]
) -> dict[str, str]:
    """Node → whom it has no tunnel or no session to yet. `keyed`: nodes whose public keys were given out."""
    found = {}
    for one in said:
        if one.mode is EncryptionMode.OFF or one.node not in connected:
            continue
        unmet = sorted(connected & set(one.unmet_peers))
        if unmet:
            found[one.node] = f"no handshake yet with {_named(unmet)}"
        elif one.peers < len(keyed - {one.node}):
            found[one.node] = f"tunnels to {one.peers} of {len(keyed - {one.node})} nodes"
    return found


def _named(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
