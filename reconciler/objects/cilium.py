"""Read CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2).

In:   a Document whose form was checked
Out:  one PolicyObject for `spec` and one for each entry of `specs`
Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from netpolicy.document import Document
from netpolicy.labels import KUBERNETES_SOURCE, Label, Labels
from netpolicy.positions import NodePath
from netpolicy.rules import Action, AuthMode, Direction, PolicyKind, Protocol
from reconciler.objects.fields import policy_id, policy_mode, read_block, read_selector
from reconciler.objects.policy import (
    BlockGroup,
    BlockGroupPeer,
    BlockPeer,
    EndpointPeer,
    EntityPeer,
    IcmpField,
    NamePeer,
    NodePeer,
    Peer,
    PolicyObject,
    PortField,
    PortGroup,
    RuleObject,
    Section,
    ServiceRefPeer,
)
from reconciler.objects.port_text import DEFAULT_FAMILY, FAMILIES, icmp_type, port_number
from reconciler.objects.requests import (
    read_listener,
    read_names,
    read_requests,
    read_server_names,
    read_tls,
)

API_VERSION: Final = "cilium.io/v2"
OLD_API_VERSION: Final = "cilium.io/v1alpha1"
GROUP_KIND: Final = "CiliumCIDRGroup"
GROUP_API_VERSIONS: Final = ("cilium.io/v2", "cilium.io/v2alpha1")

_SECTIONS: Final = (
    ("ingress", Direction.INGRESS, Action.ALLOW),
    ("ingressDeny", Direction.INGRESS, Action.DENY),
    ("egress", Direction.EGRESS, Action.ALLOW),
    ("egressDeny", Direction.EGRESS, Action.DENY),
)
_PROTOCOLS: Final = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP, "ANY": None}


def read_cilium(document: Document, kind: PolicyKind) -> Iterator[PolicyObject]:
    """The policies of one document; `spec` comes first and has index 0."""
    specs: list[tuple[NodePath, Mapping[str, Any]]] = []
    if "spec" in document.value:
        specs.append((("spec",), document.value["spec"]))
    for number, spec in enumerate(document.value.get("specs", [])):
        specs.append((("specs", number), spec))
    for index, (at, spec) in enumerate(specs):
        subject = "nodeSelector" if "nodeSelector" in spec else "endpointSelector"
        yield PolicyObject(
            id=policy_id(document, kind),
            index=index,
            mode=policy_mode(document),
            at=at,
            subject=read_selector(spec[subject], (*at, subject)),
            selects_nodes=subject == "nodeSelector",
            sections=tuple(_sections(spec, at)),
            declared_default_deny=tuple(
                (direction, spec["enableDefaultDeny"][direction.word])
                for direction in Direction
                if direction.word in spec.get("enableDefaultDeny", {})
            ),
            log_value=spec.get("log", {}).get("value", ""),
            document=document,
        )


def read_block_group(document: Document) -> BlockGroup:
    """The blocks of a CiliumCIDRGroup."""
    metadata = document.value["metadata"]
    return BlockGroup(
        name=metadata["name"],
        labels=Labels(
            Label(KUBERNETES_SOURCE, key, value)
            for key, value in metadata.get("labels", {}).items()
        ),
        cidrs=tuple(document.value["spec"]["externalCIDRs"]),
        document=document,
    )


def _sections(spec: Mapping[str, Any], at: NodePath) -> Iterator[Section]:
    for name, direction, action in _SECTIONS:
        if name in spec:
            here = (*at, name)
            side = "from" if direction is Direction.INGRESS else "to"
            yield Section(
                at=here,
                field=name,
                direction=direction,
                action=action,
                rules=tuple(
                    _rule(rule, (*here, number), side) for number, rule in enumerate(spec[name])
                ),
            )


def _rule(rule: Mapping[str, Any], at: NodePath, side: str) -> RuleObject:
    written = [f"{side}{suffix}" for suffix in _PEERS if f"{side}{suffix}" in rule]
    return RuleObject(
        at=at,
        peers=_peers(rule, at, written) if written else None,
        peer_fields=tuple(((*at, name), len(rule[name])) for name in written),
        ports=_port_groups(rule["toPorts"], (*at, "toPorts")) if "toPorts" in rule else None,
        icmps=_icmps(rule["icmps"], (*at, "icmps")) if "icmps" in rule else None,
        authentication=AuthMode(rule["authentication"]["mode"])
        if "authentication" in rule
        else None,
    )


def _peers(rule: Mapping[str, Any], at: NodePath, written: list[str]) -> tuple[Peer, ...]:
    """The peers; one empty list empties them all, as in Cilium."""
    if any(not rule[name] for name in written):
        return ()
    return tuple(
        _PEERS[name.removeprefix("from").removeprefix("to")](value, (*at, name, number))
        for name in written
        for number, value in enumerate(rule[name])
    )


def _endpoint(value: Any, at: NodePath) -> Peer:
    return EndpointPeer(at=at, selector=read_selector(value, at))


def _entity(value: Any, at: NodePath) -> Peer:
    return EntityPeer(at=at, entity=value)


def _cidr(value: Any, at: NodePath) -> Peer:
    return BlockPeer(at=at, cidr_at=at, cidr=value)


def _cidr_set(value: Any, at: NodePath) -> Peer:
    if "cidr" in value:
        return read_block(value, at)
    selected = "cidrGroupSelector" in value
    here = (*at, "cidrGroupSelector")
    return BlockGroupPeer(
        at=at,
        name=value.get("cidrGroupRef", ""),
        selector=read_selector(value["cidrGroupSelector"], here) if selected else None,
        excepts=tuple(value.get("except", [])),
    )


def _node(value: Any, at: NodePath) -> Peer:
    return NodePeer(at=at, selector=read_selector(value, at))


def _fqdn(value: Any, at: NodePath) -> Peer:
    return NamePeer(at=at, names=read_names(value))


def _service(value: Any, at: NodePath) -> Peer:
    if "k8sService" in value:
        named = value["k8sService"]
        return ServiceRefPeer(
            at=at, namespace=named.get("namespace", ""), name=named["serviceName"]
        )
    chosen = value["k8sServiceSelector"]
    here = (*at, "k8sServiceSelector", "selector")
    return ServiceRefPeer(
        at=at,
        namespace=chosen.get("namespace", ""),
        selector=read_selector(chosen["selector"], here),
    )


_PEERS: Final[dict[str, Callable[[Any, NodePath], Peer]]] = {
    "Endpoints": _endpoint,
    "Entities": _entity,
    "CIDR": _cidr,
    "CIDRSet": _cidr_set,
    "Nodes": _node,
    "FQDNs": _fqdn,
    "Services": _service,
}
"""The peer fields behind `from` or `to`, in the order their peers are kept."""


def _port_groups(groups: list[Any], at: NodePath) -> tuple[PortGroup, ...]:
    return tuple(_port_group(group, (*at, number)) for number, group in enumerate(groups))


def _port_group(group: Mapping[str, Any], at: NodePath) -> PortGroup:
    return PortGroup(
        at=at,
        fields=tuple(
            _port(port, (*at, "ports", number))
            for number, port in enumerate(group.get("ports", []))
        ),
        l7=read_requests(group.get("rules", {})),
        server_names=read_server_names(group.get("serverNames", [])),
        terminating_tls=read_tls(group.get("terminatingTLS")),
        originating_tls=read_tls(group.get("originatingTLS")),
        listener=read_listener(group.get("listener")),
    )


def _port(port: Mapping[str, Any], at: NodePath) -> PortField:
    written = port["port"] if "port" in port else str(port["number"])
    number = port_number(written)
    return PortField(
        at=at,
        protocol=_PROTOCOLS[port.get("protocol", "ANY")],
        port=number,
        end_port=port.get("endPort"),
        name=written.lower() if number is None else "",
    )


def _icmps(groups: list[Any], at: NodePath) -> tuple[tuple[IcmpField, ...], ...]:
    return tuple(
        tuple(
            _icmp(entry, (*at, group_number, "fields", number))
            for number, entry in enumerate(group.get("fields", []))
        )
        for group_number, group in enumerate(groups)
    )


def _icmp(entry: Mapping[str, Any], at: NodePath) -> IcmpField:
    family = entry.get("family", DEFAULT_FAMILY)
    number = icmp_type(family, entry["type"])
    if number is None:
        raise ValueError(f"unchecked ICMP type at {at}")
    return IcmpField(at=at, protocol=FAMILIES[family], type=number)
