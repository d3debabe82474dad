"""Put compiled policy into words.

In:   selectors, peers, ports, rules
Out:  one line of text each, as an author would say it
Pure.
"""

from __future__ import annotations

from typing import Final

from netpolicy.labels import (
    ANY_SOURCE,
    CLUSTER_KEY,
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    RESERVED_SOURCE,
    Operator,
    Requirement,
    Selector,
)
from netpolicy.rules import LAST_PORT, CidrBlock, Direction, Peers, Ports, Rule

_SIDES: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_QUIET_SOURCES: Final = (ANY_SOURCE, KUBERNETES_SOURCE)


def rule_text(rule: Rule) -> str:
    """`allow from namespace=shop, app=web on tcp/80`."""
    return f"{rule.action} {_SIDES[rule.direction]} {peers_text(rule.peers)} on {ports_text(rule.ports)}"


def peers_text(peers: Peers | None) -> str:
    """Who the other end may be."""
    if peers is None:
        return "anyone"
    parts = [*map(selector_text, peers.selectors), *map(_block_text, peers.cidrs)]
    return " or ".join(parts) or "no one"


def ports_text(ports: tuple[Ports, ...] | None) -> str:
    """Which protocols and ports."""
    if ports is None:
        return "any port"
    return ", ".join(map(_range_text, ports)) or "no port"


def selector_text(selector: Selector) -> str:
    """The requirements; the local cluster is named only where it is all there is."""
    if [r.key for r in selector.requirements] == [CLUSTER_KEY]:
        return "any pod"
    parts = [_requirement_text(r) for r in selector.requirements if r.key != CLUSTER_KEY]
    return ", ".join(sorted(parts, key=lambda part: not part.startswith("namespace"))) or "anyone"


def _requirement_text(requirement: Requirement) -> str:
    name = _name(requirement)
    values = ", ".join(requirement.values)
    match requirement.operator:
        case Operator.IN if len(requirement.values) == 1:
            return f"{name}={values}" if values else name
        case Operator.IN:
            return f"{name} in ({values})"
        case Operator.NOT_IN:
            return f"{name} not in ({values})"
        case Operator.EXISTS:
            return name if requirement.source == RESERVED_SOURCE else f"has {name}"
        case Operator.DOES_NOT_EXIST:
            return f"no {name}"


def _name(requirement: Requirement) -> str:
    if requirement.key == NAMESPACE_KEY:
        return "namespace"
    if requirement.source in (*_QUIET_SOURCES, RESERVED_SOURCE):
        return requirement.key
    return f"{requirement.source}:{requirement.key}"


def _block_text(block: CidrBlock) -> str:
    return f"{block.cidr} except {', '.join(block.excepts)}" if block.excepts else block.cidr


def _range_text(ports: Ports) -> str:
    if (ports.first, ports.last) == (0, LAST_PORT):
        return f"{ports.protocol.word}/any"
    if ports.first == ports.last:
        return f"{ports.protocol.word}/{ports.first}"
    return f"{ports.protocol.word}/{ports.first}-{ports.last}"
