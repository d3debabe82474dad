"""WireGuard between nodes: the settings that are signed, and the public keys that nodes announce.

In:   the signed field `encryption` of a channel; what a node announces
Out:  Encryption, NodeKey; and back
Pure.

Holds always:
1. Every signed field is required: a missing, unknown or ill-typed one is RejectedBundle, never a default.
2. Decoding what was encoded gives equal settings; settings that could not be read back are ValueError.
3. A public key that exists is 32 bytes in their one spelling, and not the zero key.
4. Strict mode is never on while encryption is off.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_network
from typing import Any, Final

from netpolicy.trust import malformed

DEFAULT_PORT: Final = 51871
FIRST_PORT: Final = 1
LAST_PORT: Final = 65535
PORTS: Final = 4
"""Tunnels listen on as many ports, from `port` on: one for each pair of an old or new key at either end."""

MAX_POD_CIDRS: Final = 64
MIN_ROTATION_SECONDS: Final = 3600
"""Below this, keys would be changed before every node has heard of the last change."""

MAX_ROTATION_SECONDS: Final = 366 * 86400
MAX_KEYS_PER_NODE: Final = 2
"""The new one and, while a rotation is under way, the old one."""

KEY_BYTES: Final = 32
_KEY_TEXT: Final = 44


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """What a revision says of encryption between nodes.

    `strict`: no byte of a pod leaves or enters a node in the clear. `node_traffic`: what the nodes
    themselves say to each other is encrypted, too. `port`: of the tunnels, UDP, on every node.
    `rotation_seconds`: the age at which a node makes itself a new key; 0: only when told to.
    `userspace_fallback`: where the kernel has no WireGuard, wireguard-go may stand in for it.
    `pod_cidrs`: blocks that pods' addresses are from; in strict mode nothing is sent in the clear to an
    address in them, whether a pod is known to have it or not.
    """

    enabled: bool = False
    strict: bool = False
    node_traffic: bool = False
    port: int = DEFAULT_PORT
    rotation_seconds: int = 0
    userspace_fallback: bool = True
    pod_cidrs: tuple[str, ...] = ()


OFF: Final = Encryption()
"""What holds where nobody switched encryption on."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NodeKey:
    """A public key of a node: base64, as `wg` writes it.

    `addresses` are the node's own, where its tunnel's packets go; `port` is the first of those it listens
    on; `made_at` in seconds since the epoch. A node that rotates has two keys, the newest first, told
    apart by their `slot`. `in_force`: the node encrypts; False: it can, and will with nodes that do.
    """

    node: str
    public_key: str
    addresses: tuple[str, ...]
    port: int
    made_at: float
    in_force: bool = True
    slot: int = 0


def encode_encryption(settings: Encryption) -> dict[str, Any]:
    """The settings as signed; raises ValueError for what could not be read back."""
    if fault := encryption_fault(settings):
        raise ValueError(fault)
    values = {field.name: getattr(settings, field.name) for field in fields(Encryption)}
    return values | {"pod_cidrs": list(settings.pod_cidrs)}


def decode_encryption(value: object) -> Encryption:
    """Read settings whose signature was verified; raises RejectedBundle."""
    if not isinstance(value, Mapping) or value.keys() != {f.name for f in fields(Encryption)}:
        raise malformed("encryption is missing, or does not have exactly its fields")
    settings = Encryption(
        enabled=_flag(value["enabled"]),
        strict=_flag(value["strict"]),
        node_traffic=_flag(value["node_traffic"]),
        port=_number(value["port"]),
        rotation_seconds=_number(value["rotation_seconds"]),
        userspace_fallback=_flag(value["userspace_fallback"]),
        pod_cidrs=_cidrs(value["pod_cidrs"]),
    )
    if fault := encryption_fault(settings):
        raise malformed(fault)
    return settings


def encryption_fault(settings: Encryption) -> str:
    """What makes settings impossible; empty if nothing does."""
    if not FIRST_PORT <= settings.port <= LAST_PORT:
        return f"port {settings.port} is none"
    if settings.port > LAST_PORT - PORTS + 1:
        return f"port {settings.port} leaves no room for the {PORTS - 1} ports behind it"
    if len(settings.pod_cidrs) > MAX_POD_CIDRS or not all(map(is_cidr, settings.pod_cidrs)):
        return f"pod_cidrs are not at most {MAX_POD_CIDRS} blocks of addresses"
    if settings.strict and not settings.enabled:
        return "strict without encryption would cut every connection between nodes"
    rotation = settings.rotation_seconds
    if rotation and not MIN_ROTATION_SECONDS <= rotation <= MAX_ROTATION_SECONDS:
        return (
            f"rotation of {rotation} seconds is neither 0 nor in"
            f" {MIN_ROTATION_SECONDS}..{MAX_ROTATION_SECONDS}"
        )
    return ""


def is_cidr(text: str) -> bool:
    """True for the one spelling of a block of addresses, host bits clear, that is not all there are."""
    try:
        block = ip_network(text)
    except ValueError:
        return False
    return str(block) == text and block.prefixlen > 0


def is_public_key(text: str) -> bool:
    """True for the one base64 spelling of 32 bytes that are not all zero."""
    if len(text) != _KEY_TEXT:
        return False
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == KEY_BYTES and any(raw) and base64.b64encode(raw).decode() == text


def _flag(value: object) -> bool:
    if type(value) is not bool:
        raise malformed("a switch of encryption is neither true nor false")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise malformed("a number of encryption is none")
    return value


def _cidrs(value: object) -> tuple[str, ...]:
    if type(value) is not list or any(type(cidr) is not str for cidr in value):
        raise malformed("pod_cidrs of encryption are no list of texts")
    return tuple(value)
