"""Read CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2).

In:   a Document whose form was checked
Out:  one PolicyObject for `spec` and one for each entry of `specs`
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from netpolicy.document import Document, NodePath
from netpolicy.rules import Action, Direction, PolicyKind, Protocol
from reconciler.objects.fields import policy_id, policy_mode, read_block, read_selector
from reconciler.objects.policy import (
    BlockPeer,
    EndpointPeer,
    EntityPeer,
    IcmpField,
    Peer,
    PolicyObject,
    PortField,
    RuleObject,
    Section,
)
from reconciler.objects.port_text import DEFAULT_FAMILY, FAMILIES, icmp_type, port_number

API_VERSION: Final = "cilium.io/v2"

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
        yield PolicyObject(
            id=policy_id(document, kind),
            index=index,
            mode=policy_mode(document),
            at=at,
            subject=read_selector(spec["endpointSelector"], (*at, "endpointSelector")),
            sections=tuple(_sections(spec, at)),
            declared_default_deny=tuple(
                (direction, spec["enableDefaultDeny"][direction.word])
                for direction in Direction
                if direction.word in spec.get("enableDefaultDeny", {})
            ),
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
    names = [f"{side}{suffix}" for suffix in ("Endpoints", "Entities", "CIDR", "CIDRSet")]
    written = [name for name in names if name in rule]
    return RuleObject(
        at=at,
        peers=_peers(rule, at, written) if written else None,
        peer_fields=tuple(((*at, name), len(rule[name])) for name in written),
        ports=_ports(rule["toPorts"], (*at, "toPorts")) if "toPorts" in rule else None,
        icmps=_icmps(rule["icmps"], (*at, "icmps")) if "icmps" in rule else None,
    )


def _peers(rule: Mapping[str, Any], at: NodePath, written: list[str]) -> tuple[Peer, ...]:
    """The peers; one empty list empties them all, as in Cilium."""
    if any(not rule[name] for name in written):
        return ()
    return tuple(
        _peer(name, value, (*at, name, number))
        for name in written
        for number, value in enumerate(rule[name])
    )


def _peer(name: str, value: Any, at: NodePath) -> Peer:
    if name.endswith("Endpoints"):
        return EndpointPeer(at=at, selector=read_selector(value, at))
    if name.endswith("Entities"):
        return EntityPeer(at=at, entity=value)
    if name.endswith("CIDR"):
        return BlockPeer(at=at, cidr_at=at, cidr=value)
    return read_block(value, at)


def _ports(groups: list[Any], at: NodePath) -> tuple[tuple[PortField, ...], ...]:
    return tuple(
        tuple(
            PortField(
                at=(*at, group_number, "ports", number),
                protocol=_PROTOCOLS[port.get("protocol", "ANY")],
                port=port_number(port["port"]),
                end_port=port.get("endPort"),
            )
            for number, port in enumerate(group.get("ports", []))
        )
        for group_number, group in enumerate(groups)
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
