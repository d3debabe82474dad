"""What keeps a rule from matching a flow, or a policy from selecting an endpoint, in words.

In:   a rule, the peer and the flow; a selector and labels
Out:  Miss values: which part does not match, and why; none if all match
Pure.

Holds always:
1. There is no miss exactly where the evaluator, asked of this rule alone, says that it matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Final

from netpolicy.evaluate import End, Flow, block_contains, peers_match, ports_match
from netpolicy.l7 import (
    DnsQuery,
    HttpRequest,
    KafkaRequest,
    Request,
    request_passes,
    server_name_passes,
)
from netpolicy.labels import CLUSTER_KEY, Labels, Requirement, Selector
from netpolicy.rules import Action, Peers, Rule
from reconciler.compile.rule_text import (
    names_text,
    peers_text,
    ports_text,
    requests_text,
    selector_text,
)


class Part(StrEnum):
    """The part of a rule that a flow fails."""

    PEER = "peer"
    PORT = "port"
    SERVER_NAME = "server name"
    REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One part that does not match, and why."""

    part: Part
    why: str


BEHIND_SERVICE: Final = Miss(
    part=Part.PEER,
    why="does not mean every pod behind the service, on the port where it listens",
)


def rule_misses(rule: Rule, peer: End, flow: Flow) -> tuple[Miss, ...]:
    """Every part of the rule that the flow fails."""
    return tuple(_misses(rule, peer, flow))


def unmet_requirements(selector: Selector, labels: Labels) -> tuple[Requirement, ...]:
    """What these labels lack for the selector."""
    return tuple(r for r in selector.requirements if not r.is_met_by(labels))


def unmet_text(requirement: Requirement, labels: Labels) -> str:
    """`needs app=web, has "db"`."""
    if requirement.key == CLUSTER_KEY:
        return f"is no pod of cluster {', '.join(requirement.values)}"
    wanted = selector_text(Selector(requirements=(requirement,)))
    value = labels.get(requirement.source, requirement.key)
    if value is None:
        return f"needs {wanted}, has none"
    return f'needs {wanted}, has "{value}"'


def _misses(rule: Rule, peer: End, flow: Flow) -> Iterator[Miss]:
    if rule.peers is not None and not peers_match(rule.peers, peer):
        yield Miss(part=Part.PEER, why=_peer_miss(rule.peers, peer))
    if not ports_match(rule.ports, flow):
        asked = f"{flow.protocol.word}/{flow.port}"
        yield Miss(part=Part.PORT, why=f"for {ports_text(rule.ports)}, not {asked}")
    if rule.action is Action.ALLOW:
        yield from _content_misses(rule, flow)


def _content_misses(rule: Rule, flow: Flow) -> Iterator[Miss]:
    """What a proxy would hold against the flow; what is not known of its content is not judged."""
    names, server_name = rule.server_names, flow.server_name
    if names is not None and server_name is not None and not server_name_passes(names, server_name):
        why = f"for {names_text(names) or 'no name'}, not {server_name}"
        yield Miss(part=Part.SERVER_NAME, why=why)
    if rule.l7 is None or flow.request is None or request_passes([rule.l7], flow.request):
        return
    yield Miss(
        part=Part.REQUEST, why=f"for {requests_text(rule.l7)}, not {request_text(flow.request)}"
    )


def request_text(request: Request) -> str:
    """A request in words, as rules are put."""
    match request:
        case HttpRequest():
            at = f" at {request.host}" if request.host else ""
            headers = "".join(f" with header {name}: {text}" for name, text in request.headers)
            return f"HTTP {request.method} {request.path}{at}{headers}"
        case DnsQuery():
            return f"DNS name {request.name}"
        case KafkaRequest():
            topics = f" on topic {', '.join(request.topics)}" if request.topics else ""
            return f"Kafka API {request.api_key}{topics}"


def _peer_miss(peers: Peers, peer: End) -> str:
    """Why this is none of the peers: of several selectors, the one that lacks least is shown."""
    reasons = sorted(
        (unmet_requirements(selector, peer.labels) for selector in peers.selectors), key=len
    )
    if reasons:
        others = len(reasons) - 1 + len(peers.cidrs) + len(peers.fqdns) + len(peers.services)
        also = f"; nor is it one of {others} other peers" if others else ""
        return "; ".join(unmet_text(r, peer.labels) for r in reasons[0]) + also
    if peers.services and not (peers.cidrs or peers.fqdns):
        return f"which addresses {peers_text(peers)} has is not known here"
    if not peer.labels.has_reserved("world"):
        return f"{peers_text(peers)} is outside the cluster, never a pod or a node"
    if peers.fqdns and not peers.cidrs and not peer.dns_names:
        return f"whether it is {peers_text(peers)} only a name can tell"
    if not peer.address:
        return f"it is not {peers_text(peers)}, as far as can be told without an address"
    return _block_miss(peers, peer.address)


def _block_miss(peers: Peers, text: str) -> str:
    address = ip_address(text)
    for block in peers.cidrs:
        if address in ip_network(block.cidr) and not block_contains(block, address):
            return f"{block.cidr} has it as an exception"
    return f"it is not {peers_text(peers)}"
