"""Policies as their authors wrote them: typed, and still knowing where each part stands.

In:   built by the reader of each policy API
Out:  read by `reconciler.validate` and `reconciler.compile`
Frozen values. Every `at` is a path into the object's own document.

Holds always:
1. Each value is well formed by itself; how values go together is for `reconciler.validate` to say.
2. None means that the field is absent, an empty tuple that it is present and empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from netpolicy.document import Document
from netpolicy.labels import Labels, Requirement
from netpolicy.positions import NodePath
from netpolicy.rules import (
    Action,
    AuthMode,
    Direction,
    L7Rules,
    Mode,
    NamePattern,
    PolicyId,
    Protocol,
    TlsContext,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSelector:
    """A label selector; `labels` are from matchLabels, `expressions` from matchExpressions."""

    at: NodePath
    labels: tuple[Requirement, ...] = ()
    expressions: tuple[Requirement, ...] = ()

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """All requirements, in the author's order."""
        return self.labels + self.expressions


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPeer:
    """Cilium's fromEndpoints and toEndpoints: one selector of endpoints."""

    at: NodePath
    selector: LabelSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityPeer:
    """Cilium's fromEntities and toEntities: one entity."""

    at: NodePath
    entity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPeer:
    """A block of outside addresses, less the exceptions, as written."""

    at: NodePath
    cidr_at: NodePath
    cidr: str
    excepts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPeer:
    """Kubernetes' podSelector and namespaceSelector; one of them may be absent."""

    at: NodePath
    pods: LabelSelector | None
    namespaces: LabelSelector | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePeer:
    """Cilium's fromNodes and toNodes: one selector of nodes."""

    at: NodePath
    selector: LabelSelector


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePeer:
    """Cilium's toFQDNs: outside addresses by the DNS names that resolved to them."""

    at: NodePath
    names: NamePattern


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRefPeer:
    """Cilium's toServices: what stands behind one service (`name`), or behind those selected."""

    at: NodePath
    namespace: str
    name: str = ""
    selector: LabelSelector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockGroupPeer:
    """The blocks of one CiliumCIDRGroup (`name`), or of those selected, less the exceptions."""

    at: NodePath
    name: str = ""
    selector: LabelSelector | None = None
    excepts: tuple[str, ...] = ()


Peer = (
    EndpointPeer
    | EntityPeer
    | BlockPeer
    | PodPeer
    | NodePeer
    | NamePeer
    | ServiceRefPeer
    | BlockGroupPeer
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockGroup:
    """A CiliumCIDRGroup: named blocks that policies refer to."""

    name: str
    labels: Labels
    cidrs: tuple[str, ...]
    document: Document = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortField:
    """One entry of a port list. No protocol means Cilium's ANY; no port and no name, every port."""

    at: NodePath
    protocol: Protocol | None
    port: int | None
    end_port: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortGroup:
    """One entry of toPorts: its ports, and what is asked of the traffic to them.

    `l7` is None where no request is asked after: an empty list of rules asks for nothing.
    """

    at: NodePath
    fields: tuple[PortField, ...]
    l7: L7Rules | None = None
    server_names: tuple[NamePattern, ...] | None = None
    terminating_tls: TlsContext | None = None
    originating_tls: TlsContext | None = None
    listener: str = ""

    @property
    def asks_for_content(self) -> bool:
        """True if a proxy must see the traffic."""
        asked = (self.l7, self.server_names, self.terminating_tls, self.originating_tls)
        return bool(self.listener) or any(part is not None for part in asked)

    def __iter__(self) -> Iterator[PortField]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpField:
    """One ICMP type of one address family."""

    at: NodePath
    protocol: Protocol
    type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleObject:
    """One rule. `peer_fields` are the peer fields the author wrote: (path, number of entries).

    `ports` and `icmps` hold one group for each entry of toPorts and icmps; Kubernetes' ports are one.
    """

    at: NodePath
    peers: tuple[Peer, ...] | None = None
    peer_fields: tuple[tuple[NodePath, int], ...] = ()
    ports: tuple[PortGroup, ...] | None = None
    icmps: tuple[tuple[IcmpField, ...], ...] | None = None
    authentication: AuthMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A list of rules, such as `ingressDeny`."""

    at: NodePath
    field: str
    direction: Direction
    action: Action
    rules: tuple[RuleObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyObject:
    """One policy, or one entry of a `specs` list.

    `declared_default_deny` is what the author says of it outright: enableDefaultDeny in Cilium's
    kinds, policyTypes in Kubernetes'. `groups` are those that its rules refer to.
    """

    id: PolicyId
    index: int = 0
    mode: Mode = Mode.ENFORCE
    at: NodePath = ("spec",)
    subject: LabelSelector
    sections: tuple[Section, ...]
    declared_default_deny: tuple[tuple[Direction, bool], ...] = ()
    selects_nodes: bool = False
    log_value: str = ""
    groups: tuple[BlockGroup, ...] = ()
    document: Document = field(repr=False)

    def has_rules(self, direction: Direction) -> bool:
        """True if a section of this direction, allow or deny, has a rule."""
        return any(s.rules for s in self.sections if s.direction is direction)

    def declares(self, direction: Direction) -> bool | None:
        """What the author says outright of default deny in this direction, or None."""
        return dict(self.declared_default_deny).get(direction)
