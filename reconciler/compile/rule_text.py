"""Put compiled policy into words.

In:   selectors, peers, ports, rules
Out:  one line of text each, as an author would say it
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from netpolicy.rules import (
    LAST_PORT,
    CidrBlock,
    Direction,
    HeaderMatch,
    HttpRule,
    KafkaRule,
    L7Rules,
    NamePattern,
    Peers,
    Ports,
    RateLimit,
    Rule,
    ServicePeer,
)

_SIDES: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_QUIET_SOURCES: Final = (ANY_SOURCE, KUBERNETES_SOURCE)


def rule_text(rule: Rule) -> str:
    """`allow from namespace=shop, app=web on tcp/80 for HTTP GET /public`."""
    side = _SIDES[rule.direction]
    text = f"{rule.action} {side} {peers_text(rule.peers)} on {ports_text(rule.ports)}"
    return " ".join([text, *_demands(rule)])


def peers_text(peers: Peers | None) -> str:
    """Who the other end may be."""
    if peers is None:
        return "anyone"
    parts = [
        *map(selector_text, peers.selectors),
        *map(_block_text, peers.cidrs),
        *(f"DNS name {names_text((pattern,))}" for pattern in peers.fqdns),
        *map(_service_text, peers.services),
    ]
    return " or ".join(parts) or "no one"


def requests_text(rules: L7Rules) -> str:
    """Which requests: `HTTP GET /public or POST /orders`."""
    if rules.http is not None:
        return f"HTTP {' or '.join(map(_http_text, rules.http)) or 'of any kind'}"
    if rules.dns is not None:
        return f"DNS names {names_text(rules.dns) or 'of any kind'}"
    if rules.kafka is not None:
        return f"Kafka {' or '.join(map(_kafka_text, rules.kafka)) or 'of any kind'}"
    parts = (", ".join(f"{k}={v}" for k, v in pairs) for pairs in rules.parser_rules)
    return f"{rules.parser} {' or '.join(parts) or 'of any kind'}"


def names_text(names: tuple[NamePattern, ...]) -> str:
    """Names and patterns, as written but for their case."""
    return ", ".join(one.name or one.pattern for one in names)


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


def _service_text(service: ServicePeer) -> str:
    where = f"{service.namespace}/" if service.namespace else ""
    if service.selector is not None:
        return f"services {where}({selector_text(service.selector)})"
    return f"service {where}{service.name}"


def _demands(rule: Rule) -> Iterator[str]:
    """What a rule asks beyond peer and port."""
    if rule.server_names is not None:
        yield f"for TLS to {names_text(rule.server_names) or 'no name'}"
    if rule.l7 is not None:
        yield f"for {requests_text(rule.l7)}"
    if rule.terminating_tls or rule.originating_tls:
        yield "with TLS ended and begun anew"
    if rule.listener:
        yield f"through the listener {rule.listener}"
    if rule.authentication is not None:
        yield f"with authentication {rule.authentication}"


def _http_text(rule: HttpRule) -> str:
    parts = [rule.method or "any method", rule.path or "any path"]
    if rule.host:
        parts.append(f"at {rule.host}")
    headers = [_pair_text(name, value) for name, value in rule.headers]
    headers += [_header_text(match) for match in rule.header_matches]
    parts += [f"with header {header}" for header in headers]
    if rule.rate_limit is not None:
        parts.append(_limit_text(rule.rate_limit))
    return " ".join(parts)


def _limit_text(limit: RateLimit) -> str:
    span = "a second" if limit.seconds == 1 else f"in {limit.seconds} seconds"
    burst = "" if limit.burst == limit.requests else f" ({limit.burst} at once)"
    return f"up to {limit.requests} {span}{burst}"


def _header_text(match: HeaderMatch) -> str:
    value = f"(secret {match.secret.name})" if match.secret else match.value
    text = _pair_text(match.name, value)
    return f"{text} (else {match.mismatch.lower()})" if match.mismatch else text


def _pair_text(name: str, value: str) -> str:
    return f"{name}: {value}" if value else name


def _kafka_text(rule: KafkaRule) -> str:
    parts = []
    if rule.api_keys:
        parts.append(f"API {', '.join(map(str, rule.api_keys))}")
    if rule.api_version is not None:
        parts.append(f"version {rule.api_version}")
    if rule.client_id:
        parts.append(f"from client {rule.client_id}")
    if rule.topic:
        parts.append(f"on topic {rule.topic}")
    return " ".join(parts) or "of any kind"


def _range_text(ports: Ports) -> str:
    if ports.name:
        return f'{ports.protocol.word}/"{ports.name}"'
    if (ports.first, ports.last) == (0, LAST_PORT):
        return f"{ports.protocol.word}/any"
    if ports.first == ports.last:
        return f"{ports.protocol.word}/{ports.first}"
    return f"{ports.protocol.word}/{ports.first}-{ports.last}"
