"""Policies as their authors wrote them: typed, and still knowing where each part stands.

In:   built by the reader of each policy API
Out:  read by `reconciler.validate` and `reconciler.compile`
Frozen values. Every `at` is a path into the object's own document.

Holds always:
1. Each value is well formed by itself; how values go together is for `reconciler.validate` to say.
2. None means that the field is absent, an empty tuple that it is present and empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netpolicy.document import Document, NodePath
from netpolicy.labels import Requirement
from netpolicy.rules import Action, Direction, Mode, PolicyId, Protocol


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


Peer = EndpointPeer | EntityPeer | BlockPeer | PodPeer


@dataclass(frozen=True, slots=True, kw_only=True)
class PortField:
    """One entry of a port list. No protocol means Cilium's ANY; no port, every port."""

    at: NodePath
    protocol: Protocol | None
    port: int | None
    end_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpField:
    """One ICMP type of one address family."""

    at: NodePath
    protocol: Protocol
    type: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleObject:
    """One rule. `peer_fields` are the peer fields the author wrote: (path, number of entries).

    `ports` and `icmps` hold one group for each entry of toPorts and icmps.
    """

    at: NodePath
    peers: tuple[Peer, ...] | None = None
    peer_fields: tuple[tuple[NodePath, int], ...] = ()
    ports: tuple[tuple[PortField, ...], ...] | None = None
    icmps: tuple[tuple[IcmpField, ...], ...] | None = None


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
    kinds, policyTypes in Kubernetes'.
    """

    id: PolicyId
    index: int = 0
    mode: Mode = Mode.ENFORCE
    at: NodePath = ("spec",)
    subject: LabelSelector
    sections: tuple[Section, ...]
    declared_default_deny: tuple[tuple[Direction, bool], ...] = ()
    document: Document = field(repr=False)

    def has_rules(self, direction: Direction) -> bool:
        """True if a section of this direction, allow or deny, has a rule."""
        return any(s.rules for s in self.sections if s.direction is direction)

    def declares(self, direction: Direction) -> bool | None:
        """What the author says outright of default deny in this direction, or None."""
        return dict(self.declared_default_deny).get(direction)
