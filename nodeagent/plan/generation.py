"""What one generation of the kernel's maps holds, as plain values.

In:   made by `nodeagent.plan.build`
Out:  written by `nodeagent.datapath`, looked up by `nodeagent.plan.model`
Pure. Field widths are those of bpf/abi.h.

A verdict takes four lookups in `policy`: {the peer's class, ANY} times {the port's class, ANY},
where the wildcard port entry has protocol 0 too. The strongest verdict wins (`Verdict` order);
between equal ones the most specific key: class and port, class, port, neither.
With no entry, the endpoint table's flag for the direction denies or lets pass.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from netpolicy.evaluate import Outcome
from netpolicy.rules import RuleId

ANY_CLASS: Final = 0
ANY_PROTOCOL: Final = 0
ANY_PORT_CLASS: Final = 0
NO_PORT_CLASS: Final = 0
"""A port that no local rule names: only wildcard entries can match it."""


class Verdict(IntEnum):
    """Strength order: a larger number wins."""

    ALLOW = 1
    REDIRECT = 2
    DENY = 3


class TableFlag(IntFlag):
    """Directions in which an endpoint refuses what no entry allows."""

    DENY_INGRESS = 1
    DENY_EGRESS = 2


@dataclass(frozen=True, slots=True, order=True)
class PolicyKey:
    """table u32, peer_class u32, direction u8, protocol u8, port_class u16."""

    table: int
    peer_class: int
    direction: int
    protocol: int
    port_class: int


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """verdict u8, proxy_port u16, cookie u32 (key of `Generation.attributions`)."""

    verdict: Verdict
    cookie: int
    proxy_port: int = 0


@dataclass(frozen=True, slots=True)
class EndpointTable:
    """Which table judges an endpoint, and whom to name when nothing matched (0: nobody)."""

    table: int
    flags: TableFlag
    ingress_cookie: int = 0
    egress_cookie: int = 0


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a cookie stands for: the outcome, and the rules or isolating policies behind it."""

    outcome: Outcome
    rules: tuple[RuleId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The whole of one generation.

    `class_of`: identity number → peer class (≥ 1); an identity that is absent is dropped.
    `port_class_of`: protocol number → array('H') of 65,536 classes (256 for the two ICMPs);
    a protocol that is absent has class NO_PORT_CLASS throughout.
    `endpoint_tables`: endpoint id → table. `digest`: SHA-256 hex over all of it, and over
    what the proxy judges for it.
    """

    policy: Mapping[PolicyKey, PolicyEntry]
    class_of: Mapping[int, int]
    port_class_of: Mapping[int, array[int]]
    endpoint_tables: Mapping[int, EndpointTable]
    attributions: Mapping[int, Attribution]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPlan:
    """Which identity stands behind which address; shared by all generations.

    `exact`: canonical address text → identity (pods, nodes). `prefixes`: canonical CIDR text →
    identity, longest match wins; always holds 0.0.0.0/0 and ::/0 (the world).
    """

    exact: Mapping[str, int]
    prefixes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEndpoint:
    """A pod on this node. `endpoint_id` u32 is never reused for another pod's addresses."""

    endpoint_id: int
    identity: int
    interface: str
    namespace: str
    name: str
    addresses: tuple[str, ...]
    mac: str = ""
