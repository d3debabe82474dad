"""Read Kubernetes NetworkPolicy (networking.k8s.io/v1).

In:   a Document whose form was checked
Out:  one PolicyObject; a warning for each section that policyTypes leaves out
Pure.

Holds always:
1. `from`, `to` and `ports` that are absent or empty match everything, unlike Cilium's: both are None here.
2. policyTypes alone says which directions are isolated; a section it leaves out has no meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic
from netpolicy.labels import KUBERNETES_SOURCE
from netpolicy.positions import NodePath
from netpolicy.rules import Action, Direction, PolicyKind, Protocol
from reconciler.codes import fault
from reconciler.objects.fields import policy_id, policy_mode, read_block, read_selector
from reconciler.objects.policy import (
    LabelSelector,
    Peer,
    PodPeer,
    PolicyObject,
    PortField,
    PortGroup,
    RuleObject,
    Section,
)

API_VERSION: Final = "networking.k8s.io/v1"

_AT: Final[NodePath] = ("spec",)
_PEER_FIELDS: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_PROTOCOLS: Final = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


def read_network_policy(document: Document) -> tuple[PolicyObject, list[Diagnostic]]:
    """The policy of one document."""
    spec = document.value["spec"]
    isolated = _isolated(spec)
    policy = PolicyObject(
        id=policy_id(document, PolicyKind.NP),
        mode=policy_mode(document),
        at=_AT,
        subject=_selector(spec["podSelector"], (*_AT, "podSelector")),
        sections=tuple(_section(spec, direction) for direction in isolated),
        declared_default_deny=tuple((d, d in isolated) for d in Direction),
        document=document,
    )
    return policy, list(_left_out(document, isolated))


def _isolated(spec: Mapping[str, Any]) -> tuple[Direction, ...]:
    """The directions of policyTypes; without it ingress, and egress if it has rules."""
    if types := spec.get("policyTypes"):
        return tuple(d for d in Direction if d.word.capitalize() in types)
    return tuple(Direction) if spec.get("egress") else (Direction.INGRESS,)


def _left_out(document: Document, isolated: tuple[Direction, ...]) -> Iterator[Diagnostic]:
    for direction in Direction:
        if direction not in isolated and document.value["spec"].get(direction.word):
            yield fault(
                document,
                (*_AT, direction.word),
                "TG309",
                f'"{direction.word}" has no effect: policyTypes leaves it out',
                on_key=True,
            )


def _section(spec: Mapping[str, Any], direction: Direction) -> Section:
    at = (*_AT, direction.word)
    rules = spec.get(direction.word, [])
    return Section(
        at=at,
        field=direction.word,
        direction=direction,
        action=Action.ALLOW,
        rules=tuple(
            _rule(rule, (*at, number), _PEER_FIELDS[direction]) for number, rule in enumerate(rules)
        ),
    )


def _rule(rule: Mapping[str, Any], at: NodePath, side: str) -> RuleObject:
    peers, ports = rule.get(side), rule.get("ports")
    return RuleObject(
        at=at,
        peers=tuple(_peer(peer, (*at, side, number)) for number, peer in enumerate(peers))
        if peers
        else None,
        peer_fields=(((*at, side), len(peers)),) if peers else (),
        ports=(_port_group(ports, (*at, "ports")),) if ports else None,
    )


def _peer(peer: Mapping[str, Any], at: NodePath) -> Peer:
    if "ipBlock" in peer:
        return read_block(peer["ipBlock"], (*at, "ipBlock"))
    return PodPeer(
        at=at,
        pods=_optional_selector(peer, at, "podSelector"),
        namespaces=_optional_selector(peer, at, "namespaceSelector"),
    )


def _optional_selector(peer: Mapping[str, Any], at: NodePath, name: str) -> LabelSelector | None:
    return _selector(peer[name], (*at, name)) if name in peer else None


def _selector(value: Mapping[str, Any], at: NodePath) -> LabelSelector:
    return read_selector(value, at, default_source=KUBERNETES_SOURCE)


def _port_group(ports: list[Any], at: NodePath) -> PortGroup:
    fields = tuple(_port(port, (*at, number)) for number, port in enumerate(ports))
    return PortGroup(at=at, fields=fields)


def _port(port: Mapping[str, Any], at: NodePath) -> PortField:
    written = port.get("port")
    return PortField(
        at=at,
        protocol=_PROTOCOLS[port.get("protocol", "TCP")],
        port=written if isinstance(written, int) else None,
        name=written.lower() if isinstance(written, str) else "",
        end_port=port.get("endPort"),
    )
