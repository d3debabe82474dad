"""What a node's standing in a rollout means for its encryption.

In:   Channels, Standing, the keys of all nodes
Out:  Encrypting: the settings to bring about, whether they are in force, the peers' keys
Pure.

Holds always:
1. Two nodes encrypt what they say to each other if either of them enforces encryption and both have
   keys: so a canary that is strict is not cut off from the nodes that only watch.
2. A node that only watches is never strict, whatever it watches.
3. A node that neither enforces nor watches encryption has no tunnels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from netpolicy.encryption import OFF, Encryption, NodeKey
from netpolicy.node_encryption import EncryptionMode
from nodeagent.rollout.channels import Channels, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypting:
    """What a node is to bring about. `node_keys`: of the other nodes, which it is to have tunnels to."""

    settings: Encryption = OFF
    mode: EncryptionMode = EncryptionMode.OFF
    node_keys: tuple[NodeKey, ...] = ()


def encrypting(
    channels: Channels | None, stand: Standing | None, keys: Iterable[NodeKey], *, node: str
) -> Encrypting:
    """What this node is to bring about."""
    if channels is None or stand is None:
        return Encrypting()
    others = tuple(sorted((k for k in keys if k.node != node), key=_newest_first))
    own = stand.enforced.encryption
    if own.enabled:
        mode = EncryptionMode.STRICT if own.strict else EncryptionMode.ON
        return Encrypting(settings=own, mode=mode, node_keys=others)
    prepared = _beside(channels)
    if not prepared.enabled:
        return Encrypting()
    return Encrypting(
        settings=replace(prepared, strict=False),
        mode=EncryptionMode.PREPARED,
        node_keys=others,
    )


def _beside(channels: Channels) -> Encryption:
    """Encryption that other nodes may enforce by this publication."""
    bundles = (channels.candidate, channels.stable)
    return next((b.encryption for b in bundles if b is not None and b.encryption.enabled), OFF)


def _newest_first(key: NodeKey) -> tuple[str, float, str]:
    return (key.node, -key.made_at, key.public_key)
