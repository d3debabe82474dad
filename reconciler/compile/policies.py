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
from dataclasses import replace
from functools import partial
from ipaddress import ip_network

from netpolicy.entities import entity_selectors
from netpolicy.labels import Selector
from netpolicy.rules import (
    LAST_PORT,
    CidrBlock,
    NamePattern,
    Peers,
    Policy,
    PolicyKind,
    Ports,
    Rule,
    ServicePeer,
    Unit,
)
from reconciler.objects.block_groups import groups_of
from reconciler.objects.defaults import (
    field_protocols,
    isolated_directions,
    matches_nothing,
    node_selector,
    peer_selector,
    pod_peer_selector,
    service_peer,
    subject_selector,
)
from reconciler.objects.memo import PolicyMemo
from reconciler.objects.policy import (
    BlockGroupPeer,
    BlockPeer,
    EndpointPeer,
    EntityPeer,
    IcmpField,
    NamePeer,
    NodePeer,
    PodPeer,
    PolicyObject,
    PortField,
    PortGroup,
    RuleObject,
    Section,
    ServiceRefPeer,
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
        selects_nodes=policy.selects_nodes,
        log_value=policy.log_value,
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
        plain = Rule(
            direction=section.direction,
            action=section.action,
            origin=f"{section.field}[{number}]",
            peers=peers,
            authentication=rule.authentication,
        )
        yield from _by_content(plain, rule)


def _by_content(rule: Rule, written: RuleObject) -> Iterator[Rule]:
    """One compiled rule for all ports whose content does not matter, one for each group where it does."""
    groups = written.ports or ()
    plain = [group for group in groups if not group.asks_for_content]
    if not groups or any(plain) or written.icmps:
        yield replace(rule, ports=_ports(plain, written.icmps))
    for number, group in enumerate(groups):
        if group and group.asks_for_content:
            origin = rule.origin if len(groups) == 1 else f"{rule.origin}.toPorts[{number}]"
            yield replace(
                rule,
                origin=origin,
                ports=_ports([group], None),
                l7=group.l7,
                server_names=group.server_names,
                terminating_tls=group.terminating_tls,
                originating_tls=group.originating_tls,
                listener=group.listener,
            )


def _peers(rule: RuleObject, policy: PolicyObject, cluster: str) -> Peers | None:
    if rule.peers is None:
        return None
    selectors: set[Selector] = set()
    blocks: set[CidrBlock] = set()
    names: set[NamePattern] = set()
    services: set[ServicePeer] = set()
    for peer in rule.peers:
        match peer:
            case BlockPeer():
                blocks.add(_block(peer))
            case BlockGroupPeer():
                blocks.update(_group_blocks(peer, policy))
            case NamePeer():
                names.add(peer.names)
            case ServiceRefPeer():
                services.add(service_peer(peer, policy))
            case _:
                selectors.update(_selectors(peer, policy, cluster))
    return Peers(
        selectors=tuple(sorted(selectors)),
        cidrs=tuple(sorted(blocks)),
        fqdns=tuple(sorted(names)),
        services=tuple(sorted(services, key=_service_order)),
    )


def _service_order(peer: ServicePeer) -> tuple[str, str, Selector]:
    return peer.namespace, peer.name, peer.selector or Selector()


def _selectors(
    peer: EndpointPeer | EntityPeer | PodPeer | NodePeer, policy: PolicyObject, cluster: str
) -> tuple[Selector, ...]:
    match peer:
        case EndpointPeer():
            return (peer_selector(peer.selector, policy, cluster=cluster),)
        case EntityPeer():
            return entity_selectors(peer.entity, cluster=cluster)
        case PodPeer():
            return (pod_peer_selector(peer, policy, cluster=cluster),)
        case NodePeer():
            return (node_selector(peer.selector),)


def _block(peer: BlockPeer) -> CidrBlock:
    return CidrBlock(
        cidr=_masked(peer.cidr), excepts=tuple(sorted(set(map(_masked, peer.excepts))))
    )


def _group_blocks(peer: BlockGroupPeer, policy: PolicyObject) -> Iterator[CidrBlock]:
    """The blocks of the groups, each less those exceptions that lie inside it."""
    holes = sorted(set(map(_masked, peer.excepts)))
    for cidr in {_masked(cidr) for group in groups_of(peer, policy.groups) for cidr in group.cidrs}:
        if not any(_lies_inside(cidr, hole) for hole in holes):
            inside = tuple(hole for hole in holes if _lies_inside(hole, cidr))
            yield CidrBlock(cidr=cidr, excepts=inside)


def _masked(cidr: str) -> str:
    return str(ip_network(cidr, strict=False))


def _lies_inside(inner: str, outer: str) -> bool:
    small, large = ip_network(inner), ip_network(outer)
    return small.version == large.version and small.subnet_of(large)  # type: ignore[arg-type]


def _ports(
    groups: Iterable[PortGroup], icmps: Iterable[Iterable[IcmpField]] | None
) -> tuple[Ports, ...] | None:
    ports = {ports for group in groups for field in group for ports in _ranges(field, group)}
    types = {
        Ports(protocol=field.protocol, first=field.type, last=field.type)
        for fields in icmps or ()
        for field in fields
    }
    return tuple(sorted(ports | types)) or None


def _ranges(field: PortField, group: PortGroup) -> Iterator[Ports]:
    """The ranges of one entry: one for its protocol, or (ANY) for each that has ports."""
    for protocol in field_protocols(field, group):
        if field.name:
            yield Ports(protocol=protocol, name=field.name)
        elif not field.port:
            yield Ports(protocol=protocol)
        else:
            last = field.end_port or field.port
            yield Ports(protocol=protocol, first=field.port, last=min(last, LAST_PORT))
