"""What keeps a rule from matching a flow, or a policy from selecting an endpoint, in words.

In:   a rule, the peer and the flow; a selector and labels
Out:  Miss values: which part does not match, and why; none if all match
Pure.

Holds always:
1. There is no miss exactly where the evaluator says that the rule matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network

from netpolicy.evaluate import End, Flow, block_contains, peers_match, ports_match
from netpolicy.labels import CLUSTER_KEY, Labels, Requirement, Selector
from netpolicy.rules import Peers, Rule
from reconciler.compile.rule_text import peers_text, ports_text, selector_text


class Part(StrEnum):
    """The part of a rule that a flow fails."""

    PEER = "peer"
    PORT = "port"


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """One part that does not match, and why."""

    part: Part
    why: str


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


def _peer_miss(peers: Peers, peer: End) -> str:
    """Why this is none of the peers: of several selectors, the one that lacks least is shown."""
    reasons = sorted(
        (unmet_requirements(selector, peer.labels) for selector in peers.selectors), key=len
    )
    if reasons:
        others = len(reasons) - 1 + len(peers.cidrs)
        also = f"; nor is it one of {others} other peers" if others else ""
        return "; ".join(unmet_text(r, peer.labels) for r in reasons[0]) + also
    if not peer.labels.has_reserved("world"):
        return f"{peers_text(peers)} is outside the cluster; blocks never mean pods or nodes"
    if not peer.address:
        return f"whether it is in {peers_text(peers)} only an address can tell"
    return _block_miss(peers, peer.address)


def _block_miss(peers: Peers, text: str) -> str:
    address = ip_address(text)
    for block in peers.cidrs:
        if address in ip_network(block.cidr) and not block_contains(block, address):
            return f"{block.cidr} has it as an exception"
    return f"it is not in {peers_text(peers)}"
