"""Compiled policy: what remains of every policy API once it is understood.

In:   built by `reconciler.compile`, or decoded from a verified unit
Out:  read by `netpolicy.evaluate` and by the agent's plan
Pure. Frozen values; `netpolicy.bundle` gives their bytes.

Holds always:
1. `peers=None` means any peer and `ports=None` any protocol and port; an empty collection means none.
2. Namespaces and clusters are already written into the selectors: a rule needs no context to be read.
3. Entities are already selectors; protocol ANY is already TCP, UDP and SCTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from netpolicy.labels import Selector


class Direction(IntEnum):
    """Seen from the endpoint that the policy selects. The numbers are the kernel's (abi.h)."""

    INGRESS = 0
    EGRESS = 1

    @property
    def word(self) -> str:
        """`ingress` or `egress`."""
        return self.name.lower()


class Action(StrEnum):
    """What a rule does with what it matches. Deny beats allow."""

    ALLOW = "allow"
    DENY = "deny"


class Protocol(IntEnum):
    """IANA protocol numbers; for the two ICMPs, "port" means the message type."""

    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132

    @property
    def word(self) -> str:
        """The name people write: `tcp`, `icmpv6`."""
        return self.name.lower()


WITH_PORTS: Final = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
LAST_PORT: Final = 65535
LAST_ICMP_TYPE: Final = 255


class PolicyKind(StrEnum):
    """The API object a policy was written as."""

    CNP = "CiliumNetworkPolicy"
    CCNP = "CiliumClusterwideNetworkPolicy"
    NP = "NetworkPolicy"


class Mode(StrEnum):
    """Where a policy ends up: the annotation `tidegate.dev/mode`."""

    DRY_RUN = "dry-run"
    CANARY = "canary"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CidrBlock:
    """Addresses in `cidr` and in none of `excepts`; canonical text (`10.0.0.0/8`, host bits zero)."""

    cidr: str
    excepts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Peers:
    """Who the other end may be: anyone that any selector or any block matches.

    A block matches addresses outside the cluster only: never a pod or a node.
    """

    selectors: tuple[Selector, ...] = ()
    cidrs: tuple[CidrBlock, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Ports:
    """An inclusive range of ports (or of ICMP types) of one protocol."""

    protocol: Protocol
    first: int = 0
    last: int = LAST_PORT

    def contains(self, protocol: Protocol, port: int) -> bool:
        """True if a flow to this port is meant."""
        return protocol == self.protocol and self.first <= port <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a policy in one direction. `origin` names it as its author would: `ingress[0]`."""

    direction: Direction
    action: Action
    origin: str
    peers: Peers | None = None
    ports: tuple[Ports, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PolicyId:
    """Names a policy for people: kind, namespace (empty for cluster-wide), name."""

    kind: PolicyKind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A compiled policy: whom it selects, what it isolates, what it allows and denies.

    `index` tells the entries of a `specs` list apart (0 for `spec`).
    `default_deny` lists the directions in which selected endpoints refuse what no rule allows.
    """

    id: PolicyId
    index: int = 0
    mode: Mode = Mode.ENFORCE
    subject: Selector
    default_deny: tuple[Direction, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RuleId:
    """Names one rule, or (empty `origin`) the policy as a whole: what a denial is blamed on."""

    policy: PolicyId
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.policy} {self.origin}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """All policies of one namespace, or (empty `namespace`) the cluster-wide ones, in order."""

    namespace: str
    policies: tuple[Policy, ...]
    format: int = 1
