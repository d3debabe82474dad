"""What a policy means where its text leaves something unsaid.

In:   PolicyObject and its parts; the name of the local cluster
Out:  whole selectors, isolated directions, whether a rule selects anything
Pure. Shared by validation, which warns of it, and compilation, which writes it out.

Holds always:
1. A namespaced policy selects pods of its own namespace only.
2. A peer selector means pods of the policy's namespace unless it names another, and never the host or
   the world unless it names a reserved label.
3. A rule that says nothing of peers and ports matches nothing in Cilium's kinds, everything in Kubernetes'.

Source: Cilium 1.19.4, `getEndpointSelector` and `ParseToCiliumRule` of pkg/k8s/apis/cilium.io/utils.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from netpolicy.labels import (
    ANY_SOURCE,
    CLUSTER_KEY,
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    NAMESPACE_LABELS_PREFIX,
    NODE_SOURCE,
    RESERVED_SOURCE,
    Operator,
    Requirement,
    Selector,
    equals,
    selector,
)
from netpolicy.rules import (
    WITH_PORTS,
    Action,
    Direction,
    PolicyKind,
    Protocol,
    ServicePeer,
)
from reconciler.objects.policy import (
    LabelSelector,
    PodPeer,
    PolicyObject,
    PortField,
    PortGroup,
    RuleObject,
    ServiceRefPeer,
)

NAMESPACE_NAME_LABEL: Final = NAMESPACE_LABELS_PREFIX + "kubernetes.io/metadata.name"
"""The label by which Kubernetes itself names every namespace: as good as the namespace key."""

_SOURCES: Final = (KUBERNETES_SOURCE, ANY_SOURCE)
_HAS_NAMESPACE: Final = Requirement(
    source=KUBERNETES_SOURCE, key=NAMESPACE_KEY, operator=Operator.EXISTS
)


def subject_selector(policy: PolicyObject) -> Selector:
    """The endpoints, or the nodes, that the policy applies to."""
    if policy.selects_nodes:
        return node_selector(policy.subject)
    if policy.id.kind is PolicyKind.CCNP:
        return _canonical(policy.subject.requirements)
    own = equals(NAMESPACE_KEY, policy.id.namespace, source=KUBERNETES_SOURCE)
    kept = [
        r for r in policy.subject.labels if (r.source, r.key) != (KUBERNETES_SOURCE, NAMESPACE_KEY)
    ]
    return _canonical([*kept, *policy.subject.expressions, own])


def peer_selector(written: LabelSelector, policy: PolicyObject, *, cluster: str) -> Selector:
    """The endpoints that a Cilium peer selector means."""
    requirements = list(written.requirements)
    if any(r.source == RESERVED_SOURCE for r in requirements):
        return _canonical(requirements)
    if not _names(requirements, NAMESPACE_KEY):
        if not policy.id.namespace:
            if not _selects_init(policy.subject):
                requirements.append(_HAS_NAMESPACE)
        elif not _names_namespace_label(requirements):
            requirements.append(
                equals(NAMESPACE_KEY, policy.id.namespace, source=KUBERNETES_SOURCE)
            )
    return _canonical(_in_cluster(requirements, cluster))


def pod_peer_selector(peer: PodPeer, policy: PolicyObject, *, cluster: str) -> Selector:
    """The pods that a Kubernetes peer means: in its own namespace, or in those it selects."""
    requirements = list(peer.pods.requirements) if peer.pods else []
    if peer.namespaces is None:
        requirements.append(equals(NAMESPACE_KEY, policy.id.namespace, source=KUBERNETES_SOURCE))
    else:
        requirements.append(_HAS_NAMESPACE)
        requirements += [
            replace(r, key=NAMESPACE_LABELS_PREFIX + r.key) for r in peer.namespaces.requirements
        ]
    return _canonical(_in_cluster(requirements, cluster))


def node_selector(written: LabelSelector) -> Selector:
    """The nodes that a selector means: a node's labels have a source of their own."""
    return selector(
        replace(r, source=NODE_SOURCE) if r.source in _SOURCES else r for r in written.requirements
    )


def service_peer(peer: ServiceRefPeer, policy: PolicyObject) -> ServicePeer:
    """The services that a peer means: those of the policy's own namespace unless it names another."""
    chosen = None if peer.selector is None else selector(peer.selector.requirements)
    return ServicePeer(
        namespace=peer.namespace or policy.id.namespace, name=peer.name, selector=chosen
    )


def field_protocols(field: PortField, group: PortGroup) -> tuple[Protocol, ...]:
    """The protocols an entry means. Without one: all that have ports, or TCP where requests are asked after
    that only TCP carries.
    """
    if field.protocol is not None:
        return (field.protocol,)
    is_dns = group.l7 is not None and group.l7.dns is not None
    return (Protocol.TCP,) if group.asks_for_content and not is_dns else WITH_PORTS


def isolated_directions(policy: PolicyObject) -> tuple[Direction, ...]:
    """The directions in which selected endpoints refuse what no rule allows."""
    return tuple(direction for direction in Direction if _isolates(policy, direction))


def is_empty_deny_all(policy: PolicyObject, direction: Direction) -> bool:
    """True if `ingress: []` (or egress) stands where no section has a rule: meant as deny-all."""
    if policy.id.kind is PolicyKind.NP or any(section.rules for section in policy.sections):
        return False
    return any(s.direction is direction and s.action is Action.ALLOW for s in policy.sections)


def matches_nothing(policy: PolicyObject, rule: RuleObject) -> bool:
    """True if the rule's empty fields leave no flow that it could match."""
    if policy.id.kind is PolicyKind.NP:
        return False
    groups = [*(rule.ports or ()), *(rule.icmps or ())]
    if rule.peers is None:
        return not any(groups)
    return not rule.peers or (bool(groups) and not any(groups))


def _isolates(policy: PolicyObject, direction: Direction) -> bool:
    declared = policy.declares(direction)
    if declared is not None:
        return declared
    return policy.has_rules(direction) or is_empty_deny_all(policy, direction)


def _names(requirements: Iterable[Requirement], key: str) -> bool:
    return any(r.key == key and r.source in _SOURCES for r in requirements)


def _names_namespace_label(requirements: Iterable[Requirement]) -> bool:
    return any(
        r.key.startswith(NAMESPACE_LABELS_PREFIX) and r.source in _SOURCES for r in requirements
    )


def _selects_init(subject: LabelSelector) -> bool:
    return any(r.source == RESERVED_SOURCE and r.key == "init" for r in subject.requirements)


def _in_cluster(requirements: list[Requirement], cluster: str) -> list[Requirement]:
    if _names(requirements, CLUSTER_KEY):
        return requirements
    return [*requirements, equals(CLUSTER_KEY, cluster, source=KUBERNETES_SOURCE)]


def _canonical(requirements: Iterable[Requirement]) -> Selector:
    return selector(
        replace(r, source=KUBERNETES_SOURCE, key=NAMESPACE_KEY)
        if r.key == NAMESPACE_NAME_LABEL and r.source in _SOURCES
        else r
        for r in requirements
    )
