"""What a node's standing in a rollout means for its encryption.

In:   Channels, Standing, the keys of all nodes
Out:  Encrypting: the settings to bring about, whether they are in force, the peers' keys
Pure.

Holds always:
1. Two nodes encrypt what they say to each other if either of them enforces encryption and both have
   keys: so a canary that is strict is not cut off from the nodes that only watch.
2. A node that only watches is never strict, whatever it watches.
3. Where any node may send its own traffic through tunnels, every node takes it from them: else the first
   to do so could not speak with the others.
4. A node that neither enforces nor watches encryption has no tunnels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from netpolicy.encryption import OFF, Encryption, NodeKey
from netpolicy.node_encryption import EncryptionMode
from nodeagent.rollout.channels import Channels, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypting:
    """What a node is to bring about. `node_keys`: of the other nodes, which it is to have tunnels to.

    `takes_node_traffic`: what nodes say themselves is taken from a tunnel, if they send it through one.
    """

    settings: Encryption = OFF
    mode: EncryptionMode = EncryptionMode.OFF
    node_keys: tuple[NodeKey, ...] = ()
    takes_node_traffic: bool = False


def encrypting(
    channels: Channels | None, stand: Standing | None, keys: Iterable[NodeKey], *, node: str
) -> Encrypting:
    """What this node is to bring about."""
    if channels is None or stand is None:
        return Encrypting()
    others = tuple(sorted((k for k in keys if k.node != node), key=_newest_first))
    own, beside = stand.enforced.encryption, _beside(channels)
    takes_node_traffic = any(settings.node_traffic for settings in (own, *beside))
    if own.enabled:
        return Encrypting(
            settings=own,
            mode=EncryptionMode.STRICT if own.strict else EncryptionMode.ON,
            node_keys=others,
            takes_node_traffic=takes_node_traffic,
        )
    if not beside:
        return Encrypting()
    return Encrypting(
        settings=replace(beside[0], strict=False),
        mode=EncryptionMode.PREPARED,
        node_keys=others,
        takes_node_traffic=takes_node_traffic,
    )


def _beside(channels: Channels) -> tuple[Encryption, ...]:
    """Encryption that other nodes may enforce by this publication."""
    bundles = (channels.candidate, channels.stable)
    return tuple(b.encryption for b in bundles if b is not None and b.encryption.enabled)


def _newest_first(key: NodeKey) -> tuple[str, float, str]:
    return (key.node, -key.made_at, key.public_key)
