"""Compiled policy: what remains of every policy API once it is understood.

In:   built by `reconciler.compile`, or decoded from a verified unit
Out:  read by `netpolicy.evaluate` and by the agent's plan
Pure. Frozen values; `netpolicy.bundle` gives their bytes.

Holds always:
1. `peers=None` means any peer and `ports=None` any protocol and port; an empty collection means none.
2. Namespaces and clusters are already written into the selectors: a rule needs no context to be read.
3. Entities are already selectors, groups of blocks already blocks; protocol ANY is already TCP, UDP
   and SCTP.
4. Names of ports, of DNS and of services stay names: whoever judges a flow resolves them.
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
class NamePattern:
    """DNS names: one `name`, or those that a `pattern` with wildcards matches. One of them is empty."""

    name: str = ""
    pattern: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServicePeer:
    """What stands behind Kubernetes services: one by `name`, or those whose labels `selector` matches.

    An empty namespace means every namespace.
    """

    namespace: str = ""
    name: str = ""
    selector: Selector | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Peers:
    """Who the other end may be: anyone that any selector, block, DNS name or service matches.

    A block or a DNS name matches addresses outside the cluster only: never a pod or a node. Nodes
    are selected by labels of source `node`.
    """

    selectors: tuple[Selector, ...] = ()
    cidrs: tuple[CidrBlock, ...] = ()
    fqdns: tuple[NamePattern, ...] = ()
    services: tuple[ServicePeer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Ports:
    """An inclusive range of ports (or of ICMP types) of one protocol.

    With a `name` (lower case) it is the port that the destination pod gives that name, and `first` and
    `last` say nothing.
    """

    protocol: Protocol
    first: int = 0
    last: int = LAST_PORT
    name: str = ""

    def contains(self, protocol: Protocol, port: int) -> bool:
        """True if a flow to this port is meant by number."""
        return protocol == self.protocol and not self.name and self.first <= port <= self.last


class AuthMode(StrEnum):
    """Whether both ends must prove who they are before their flow passes."""

    DISABLED = "disabled"
    REQUIRED = "required"
    ALWAYS_FAIL = "test-always-fail"


class HeaderMismatch(StrEnum):
    """What the proxy does with a request whose header has another value; it passes all the same."""

    LOG = "LOG"
    ADD = "ADD"
    DELETE = "DELETE"
    REPLACE = "REPLACE"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SecretRef:
    """A Kubernetes secret; the value lies under `key` where that is given."""

    namespace: str = ""
    name: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMatch:
    """A header and the value it must have: `value`, or what `secret` holds. No value: any value.

    Without `mismatch`, a request with another value is refused.
    """

    name: str
    value: str = ""
    secret: SecretRef | None = None
    mismatch: HeaderMismatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many requests pass: `requests` in each `seconds` in the long run, `burst` of them at once."""

    requests: int
    seconds: int
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRule:
    """A form of HTTP request. `method`, `path` and `host` are anchored RE2 expressions; empty: any.

    `headers` are (name, value) pairs that must be there, an empty value meaning any. What is beyond the
    `rate_limit` is answered by the proxy: the rule allows it, and it does not reach the server.
    """

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    header_matches: tuple[HeaderMatch, ...] = ()
    rate_limit: RateLimit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRule:
    """A form of Kafka request: any of the `api_keys` (numbers; empty: any); empty fields say nothing."""

    api_keys: tuple[int, ...] = ()
    api_version: int | None = None
    client_id: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class L7Rules:
    """What of the traffic on a port is allowed: requests that any rule matches. One kind is given.

    `parser` names another protocol's parser, with its rules as sorted (key, value) pairs.
    """

    http: tuple[HttpRule, ...] | None = None
    dns: tuple[NamePattern, ...] | None = None
    kafka: tuple[KafkaRule, ...] | None = None
    parser: str = ""
    parser_rules: tuple[tuple[tuple[str, str], ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsContext:
    """Where one TLS connection's certificate and trusted authorities come from."""

    secret: SecretRef
    certificate: str = ""
    private_key: str = ""
    trusted_ca: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a policy in one direction. `origin` names it as its author would: `ingress[0]`.

    What `l7`, `server_names`, `terminating_tls`, `originating_tls` and `listener` ask for only a proxy
    can see: traffic that the rule matches by peer and port is redirected to one.
    """

    direction: Direction
    action: Action
    origin: str
    peers: Peers | None = None
    ports: tuple[Ports, ...] | None = None
    authentication: AuthMode | None = None
    l7: L7Rules | None = None
    server_names: tuple[NamePattern, ...] | None = None
    terminating_tls: TlsContext | None = None
    originating_tls: TlsContext | None = None
    listener: str = ""

    @property
    def redirects(self) -> bool:
        """True if a proxy must see the traffic."""
        asked = (self.l7, self.server_names, self.terminating_tls, self.originating_tls)
        return bool(self.listener) or any(part is not None for part in asked)


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
    `selects_nodes`: the subject is the nodes themselves, by labels of source `node`, and no pod.
    `log_value` goes with every flow that the policy decides.
    """

    id: PolicyId
    index: int = 0
    mode: Mode = Mode.ENFORCE
    subject: Selector
    default_deny: tuple[Direction, ...] = ()
    rules: tuple[Rule, ...] = ()
    selects_nodes: bool = False
    log_value: str = ""


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
