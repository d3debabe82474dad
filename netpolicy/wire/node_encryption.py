"""Public keys and a node's word on its encryption, on the wire.

In:   NodeEncryption, NodeKey
Out:  messages of the push channel; and back
Pure.

Holds always:
1. What decodes is bounded, printable, and a key that can be one, or ValueError is raised: nodes are not
   trusted with a terminal, with our memory, or with the configuration of other nodes.
2. The node's name is the caller's: of an agent's own word it is the one in its certificate.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from netpolicy.encryption import (
    FIRST_PORT,
    LAST_PORT,
    MAX_KEYS_PER_NODE,
    PORTS,
    NodeKey,
    is_public_key,
)
from netpolicy.node_encryption import (
    MAX_SILENT_PEERS,
    EncryptionMode,
    Implementation,
    NodeEncryption,
)
from netpolicy.wire.tidegate.v1 import push_pb2

MAX_ADDRESSES: Final = 16
MAX_PEERS: Final = 1_000_000
MAX_NAME: Final = 253
MAX_TEXT: Final = 1000
MAX_TIME_US: Final = 1 << 53
"""In the year 2255: what is above it is no time, and would not survive as a float."""


def encode_node_encryption(report: NodeEncryption) -> push_pb2.NodeEncryption:
    """The message; it has no place for the node's name."""
    return push_pb2.NodeEncryption(
        mode=report.mode,
        implementation=report.implementation,
        keys=map(encode_key, report.keys),
        peers=report.peers,
        silent_peers=report.silent_peers[:MAX_SILENT_PEERS],
        unmet_peers=report.unmet_peers[:MAX_SILENT_PEERS],
        error=report.error[:MAX_TEXT],
    )


def decode_node_encryption(node: str, message: push_pb2.NodeEncryption) -> NodeEncryption:
    """A node's word; raises ValueError for what no agent of ours writes."""
    mode = EncryptionMode(message.mode)
    named = max(len(message.silent_peers), len(message.unmet_peers))
    if named > MAX_SILENT_PEERS or message.peers > MAX_PEERS:
        raise ValueError("more peers than a cluster has")
    return NodeEncryption(
        node=node,
        mode=mode,
        implementation=Implementation(message.implementation),
        keys=decode_keys(node, message.keys, in_force=mode.is_in_force),
        peers=message.peers,
        silent_peers=tuple(map(_name, message.silent_peers)),
        unmet_peers=tuple(map(_name, message.unmet_peers)),
        error="".join(c if c.isprintable() else " " for c in message.error[:MAX_TEXT]),
    )


def encode_node_keys(node: str, keys: Iterable[NodeKey]) -> push_pb2.NodeKeys:
    """All keys of one node."""
    held = tuple(keys)
    return push_pb2.NodeKeys(
        node=node, keys=map(encode_key, held), in_force=any(key.in_force for key in held)
    )


def decode_node_keys(message: push_pb2.NodeKeys) -> tuple[str, tuple[NodeKey, ...]]:
    """A node and its keys; raises ValueError."""
    node = _name(message.node)
    return node, decode_keys(node, message.keys, in_force=message.in_force)


def encode_key(key: NodeKey) -> push_pb2.PublicKey:
    """One key."""
    return push_pb2.PublicKey(
        key=base64.b64decode(key.public_key),
        addresses=key.addresses,
        port=key.port,
        made_at_us=round(key.made_at * 1e6),
        slot=key.slot,
    )


def decode_keys(
    node: str, messages: Iterable[push_pb2.PublicKey], *, in_force: bool
) -> tuple[NodeKey, ...]:
    """A node's keys, the newest first; raises ValueError."""
    keys = tuple(_key(node, message, in_force=in_force) for message in messages)
    if len(keys) > MAX_KEYS_PER_NODE or len({key.public_key for key in keys}) != len(keys):
        raise ValueError("more keys than a node has, or one of them twice")
    return tuple(sorted(keys, key=lambda key: -key.made_at))


def _key(node: str, message: push_pb2.PublicKey, *, in_force: bool) -> NodeKey:
    text = base64.b64encode(message.key).decode()
    if not is_public_key(text):
        raise ValueError("a public key is none")
    if not FIRST_PORT <= message.port <= LAST_PORT - PORTS + 1:
        raise ValueError("a port is none")
    if message.slot >= MAX_KEYS_PER_NODE:
        raise ValueError("a key's slot is none")
    if not 0 <= message.made_at_us <= MAX_TIME_US or len(message.addresses) > MAX_ADDRESSES:
        raise ValueError("a key's time or addresses are out of bounds")
    return NodeKey(
        node=node,
        public_key=text,
        addresses=tuple(map(_address, message.addresses)),
        port=message.port,
        made_at=message.made_at_us / 1e6,
        in_force=in_force,
        slot=message.slot,
    )


def _address(text: str) -> str:
    """An address that packets to a node can be sent to, in its one spelling."""
    address = ip_address(text[:MAX_NAME])
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise ValueError("an address is no node's")
    if str(address) != text:
        raise ValueError("an address is not written as it should be")
    return text


def _name(text: str) -> str:
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise ValueError("a node's name is none")
    return text
