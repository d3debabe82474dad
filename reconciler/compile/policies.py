"""Turn typed policy objects into compiled units.

In:   PolicyObject values that validation found no error in; the name of the local cluster
Out:  one Unit for each namespace, one for the cluster-wide policies
Pure; the memo only saves work. Same policies, same units, whatever the order of files.

Holds always:
1. A rule that selects no peer or no port is left out; its direction is isolated all the same.
2. Namespaces, clusters, entities and protocol ANY are written out: a unit needs no context.
3. Rules keep their author's order and names; everything inside a rule is sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import ip_network

from netpolicy.entities import entity_selectors
from netpolicy.labels import Selector
from netpolicy.rules import (
    LAST_PORT,
    WITH_PORTS,
    CidrBlock,
    Peers,
    Policy,
    PolicyKind,
    Ports,
    Rule,
    Unit,
)
from reconciler.objects.defaults import (
    isolated_directions,
    matches_nothing,
    peer_selector,
    pod_peer_selector,
    subject_selector,
)
from reconciler.objects.memo import PolicyMemo
from reconciler.objects.policy import (
    BlockPeer,
    EndpointPeer,
    EntityPeer,
    PodPeer,
    PolicyObject,
    PortField,
    RuleObject,
    Section,
)


def compile_policies(
    objects: Iterable[PolicyObject],
    *,
    cluster: str = "default",
    memo: PolicyMemo[Policy] | None = None,
) -> tuple[Unit, ...]:
    """Compile the policies of a revision, by namespace and then by name."""
    memo = memo or PolicyMemo()
    compiled = memo.of_each(objects, partial(compile_policy, cluster=cluster), context=cluster)
    by_namespace: dict[str, list[Policy]] = {}
    for policy in sorted(compiled, key=_order):
        by_namespace.setdefault(policy.id.namespace, []).append(policy)
    return tuple(
        Unit(namespace=namespace, policies=tuple(policies))
        for namespace, policies in sorted(by_namespace.items())
    )


def _order(policy: Policy) -> tuple[PolicyKind, str, str, int]:
    return policy.id.kind, policy.id.namespace, policy.id.name, policy.index


def compile_policy(policy: PolicyObject, *, cluster: str) -> Policy:
    """Compile one policy."""
    return Policy(
        id=policy.id,
        index=policy.index,
        mode=policy.mode,
        subject=subject_selector(policy),
        default_deny=isolated_directions(policy),
        rules=tuple(
            rule for section in policy.sections for rule in _rules(policy, section, cluster)
        ),
    )


def _rules(policy: PolicyObject, section: Section, cluster: str) -> Iterator[Rule]:
    for number, rule in enumerate(section.rules):
        if matches_nothing(policy, rule):
            continue
        peers = _peers(rule, policy, cluster)
        if peers == Peers():
            continue
        yield Rule(
            direction=section.direction,
            action=section.action,
            origin=f"{section.field}[{number}]",
            peers=peers,
            ports=_ports(rule),
        )


def _peers(rule: RuleObject, policy: PolicyObject, cluster: str) -> Peers | None:
    if rule.peers is None:
        return None
    selectors: set[Selector] = set()
    blocks: set[CidrBlock] = set()
    for peer in rule.peers:
        if isinstance(peer, BlockPeer):
            blocks.add(_block(peer))
        else:
            selectors.update(_selectors(peer, policy, cluster))
    return Peers(selectors=tuple(sorted(selectors)), cidrs=tuple(sorted(blocks)))


def _selectors(
    peer: EndpointPeer | EntityPeer | PodPeer, policy: PolicyObject, cluster: str
) -> tuple[Selector, ...]:
    match peer:
        case EndpointPeer():
            return (peer_selector(peer.selector, policy, cluster=cluster),)
        case EntityPeer():
            return entity_selectors(peer.entity, cluster=cluster)
        case PodPeer():
            return (pod_peer_selector(peer, policy, cluster=cluster),)


def _block(peer: BlockPeer) -> CidrBlock:
    return CidrBlock(
        cidr=_masked(peer.cidr), excepts=tuple(sorted(set(map(_masked, peer.excepts))))
    )


def _masked(cidr: str) -> str:
    return str(ip_network(cidr, strict=False))


def _ports(rule: RuleObject) -> tuple[Ports, ...] | None:
    if not rule.ports and not rule.icmps:
        return None
    ports = {ports for group in rule.ports or () for field in group for ports in _ranges(field)}
    types = {
        Ports(protocol=field.protocol, first=field.type, last=field.type)
        for group in rule.icmps or ()
        for field in group
    }
    return tuple(sorted(ports | types))


def _ranges(field: PortField) -> Iterator[Ports]:
    """The ranges of one entry: one for its protocol, or (ANY) for each that has ports."""
    for protocol in (field.protocol,) if field.protocol else WITH_PORTS:
        if not field.port:
            yield Ports(protocol=protocol)
        else:
            last = field.end_port or field.port
            yield Ports(protocol=protocol, first=field.port, last=min(last, LAST_PORT))
