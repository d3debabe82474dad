"""The reference meaning: what a set of policies says of one flow.

In:   policies, a flow between two ends
Out:  Decision: allowed or not, and on each side by whom
Pure. Written to be read, not to be fast; the map model and the kernel must agree with it.

Holds always:
1. Deny beats allow, whichever is narrower.
2. An endpoint that no policy isolates in a direction is open in that direction.
3. A flow passes only if the source's egress and the destination's ingress both let it pass.
4. Replies are not judged here: they follow the flow that was.
5. An allow that looks into requests is narrower than one that does not: beside a plain allow of the
   same flow every request passes, though a proxy still sees it.
6. A flow to a service passes only if it might pass to every pod behind the port, whichever the node will
   choose; a rule that denies everyone the service's own port is meant, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from netpolicy.dns_names import name_matches
from netpolicy.ends import End, Flow, NamedPort, Service
from netpolicy.l7 import request_passes, server_name_passes
from netpolicy.rules import (
    LAST_PORT,
    Action,
    AuthMode,
    CidrBlock,
    Direction,
    Mode,
    Peers,
    Policy,
    PolicyId,
    Ports,
    Protocol,
    Rule,
    RuleId,
    ServicePeer,
)

__all__ = [
    "REFUSALS",
    "Decision",
    "End",
    "Flow",
    "NamedPort",
    "Outcome",
    "Service",
    "Side",
    "authentication_of",
    "block_contains",
    "evaluate",
    "peers_match",
    "ports_match",
    "service_matches",
]


class Outcome(StrEnum):
    """Why one side lets a flow pass or refuses it."""

    NOT_AN_ENDPOINT = "not-an-endpoint"
    UNSELECTED = "unselected"
    ALLOWED = "allowed"
    LOCAL_HOST = "local-host"
    DENIED_BY_RULE = "denied-by-rule"
    DENIED_BY_DEFAULT = "denied-by-default"
    DENIED_BY_REQUEST = "denied-by-request"


REFUSALS: Final = frozenset(
    {Outcome.DENIED_BY_RULE, Outcome.DENIED_BY_DEFAULT, Outcome.DENIED_BY_REQUEST}
)

_WEIGHT: Final = {
    outcome: weight
    for weight, outcome in enumerate(
        (
            Outcome.DENIED_BY_RULE, Outcome.DENIED_BY_DEFAULT, Outcome.DENIED_BY_REQUEST,
            Outcome.ALLOWED, Outcome.UNSELECTED, Outcome.LOCAL_HOST, Outcome.NOT_AN_ENDPOINT,
        )
    )
}  # fmt: skip
"""Of several answers about one flow the first of these stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side's answer. `rules` decided it: sorted; for a default denial, the isolating policies; for a
    refused request, the rules that let other requests pass.

    `redirected`: a proxy judges what the flow carries. `authentication`: what must happen first.
    """

    outcome: Outcome
    rules: tuple[RuleId, ...] = ()
    redirected: bool = False
    authentication: AuthMode | None = None

    @property
    def passes(self) -> bool:
        """True unless this side refuses the flow."""
        return self.outcome not in REFUSALS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Both sides' answers."""

    egress: Side
    ingress: Side

    @property
    def allowed(self) -> bool:
        """True if both sides let the flow pass."""
        return self.egress.passes and self.ingress.passes

    @property
    def redirected(self) -> bool:
        """True if it is allowed, and a proxy judges what it carries."""
        return self.allowed and (self.egress.redirected or self.ingress.redirected)


def evaluate(policies: Iterable[Policy], flow: Flow, *, admit_local_host: bool = True) -> Decision:
    """Judge a new flow by the enforced policies (mode `enforce`) of a set.

    `admit_local_host`: the node's own host reaches its pods unless a rule denies it, as with a
    stock Cilium agent on Kubernetes.
    """
    enforced = tuple(policy for policy in policies if policy.mode is Mode.ENFORCE)
    return Decision(
        egress=_judge_service(enforced, flow)
        if flow.destination.is_service
        else _judge(enforced, Direction.EGRESS, flow, admit_local_host=False),
        ingress=_judge(enforced, Direction.INGRESS, flow, admit_local_host=admit_local_host),
    )


def block_contains(block: CidrBlock, address: IPv4Address | IPv6Address) -> bool:
    """True if the address is in the block and in none of its exceptions."""
    return address in ip_network(block.cidr) and not any(
        address in ip_network(hole) for hole in block.excepts
    )


def peers_match(peers: Peers | None, end: End) -> bool:
    """True if the end is one of these peers.

    Blocks and DNS names match the world only, never pods or nodes. The address of a service is nobody.
    """
    if peers is None:
        return True
    if end.is_service:
        return any(not selector.requirements for selector in peers.selectors)
    if any(selector.matches(end.labels) for selector in peers.selectors):
        return True
    if any(service_matches(wanted, given) for wanted in peers.services for given in end.services):
        return True
    if not end.labels.has_reserved("world"):
        return False
    if any(name_matches(wanted, name) for wanted in peers.fqdns for name in end.dns_names):
        return True
    if not end.address:
        return False
    address = ip_address(end.address)
    return any(block_contains(block, address) for block in peers.cidrs)


def ports_match(ports: tuple[Ports, ...] | None, flow: Flow) -> bool:
    """True if the flow goes to one of these ports; names are the destination pod's."""
    return ports is None or any(
        _is_named(wanted, flow) if wanted.name else wanted.contains(flow.protocol, flow.port)
        for wanted in ports
    )


@dataclass(frozen=True, slots=True)
class _Match:
    """A rule that matches a flow by peer and port."""

    id: RuleId
    rule: Rule


def _judge(
    policies: tuple[Policy, ...], direction: Direction, flow: Flow, *, admit_local_host: bool
) -> Side:
    egress = direction is Direction.EGRESS
    subject, peer = (flow.source, flow.destination)[:: 1 if egress else -1]
    if not (subject.is_endpoint or subject.is_node):
        return Side(outcome=Outcome.NOT_AN_ENDPOINT)
    selecting = [policy for policy in policies if _selects(policy, subject)]
    matched = [
        _Match(RuleId(policy=policy.id, origin=rule.origin), rule)
        for policy in selecting
        for rule in policy.rules
        if rule.direction is direction
        and ports_match(rule.ports, flow)
        and peers_match(rule.peers, peer)
    ]
    if denying := [match for match in matched if match.rule.action is Action.DENY]:
        return Side(outcome=Outcome.DENIED_BY_RULE, rules=_names(denying))
    if matched:
        return _allowed(matched, flow)
    if admit_local_host and peer.labels.has_reserved("host"):
        return Side(outcome=Outcome.LOCAL_HOST)
    if isolating := _isolating(selecting, direction):
        return Side(
            outcome=Outcome.DENIED_BY_DEFAULT, rules=tuple(RuleId(policy=p) for p in isolating)
        )
    return Side(outcome=Outcome.UNSELECTED)


def _judge_service(policies: tuple[Policy, ...], flow: Flow) -> Side:
    """The egress of a flow to a service: what holds of every backend.

    Rules mean who is behind an address, so of the service itself only those speak that mean everyone.
    """
    judged = partial(_judge, direction=Direction.EGRESS, admit_local_host=False)
    itself = judged(policies, flow=flow)
    ports = flow.destination.frontends
    found = next((f for f in ports if (f.protocol, f.port) == (flow.protocol, flow.port)), None)
    if found is None or itself.outcome is Outcome.DENIED_BY_RULE:
        return itself
    led = [replace(flow, destination=end, port=port) for end, port in found.backends]
    sides = [judged(policies, flow=each) for each in led]
    if not sides:  # nobody is known behind it: whoever may ask anyone there may ask it
        sides = [judged(policies, flow=replace(flow, port=found.target))]
    is_redirected = itself.redirected and not any(side.redirected for side in sides)
    redirected = [itself] if is_redirected else []
    return _all_of([*sides, *redirected])


def _all_of(sides: list[Side]) -> Side:
    """The weightiest refusal, else what lets all of them pass."""
    weightiest = min(sides, key=lambda side: _WEIGHT[side.outcome]).outcome
    deciding = [side for side in sides if side.outcome is weightiest]
    asked = [mode for side in sides if (mode := side.authentication) is not None]
    return Side(
        outcome=weightiest,
        rules=tuple(sorted({name for side in deciding for name in side.rules})),
        redirected=any(side.redirected for side in sides),
        authentication=max(asked, key=list(AuthMode).index, default=None),
    )


def _selects(policy: Policy, subject: End) -> bool:
    return policy.selects_nodes == subject.is_node and policy.subject.matches(subject.labels)


def _allowed(matched: list[_Match], flow: Flow) -> Side:
    """What rules that allow the flow by peer and port say of what it carries."""
    redirected = any(match.rule.redirects for match in matched)
    passing = [match for match in matched if _content_passes([match.rule], flow)]
    if not passing and _content_passes([match.rule for match in matched], flow):
        passing = matched  # Each allows a part of the request, together all of it.
    return Side(
        outcome=Outcome.ALLOWED if passing else Outcome.DENIED_BY_REQUEST,
        rules=_names(passing or matched),
        redirected=redirected,
        authentication=authentication_of((match.rule for match in matched), flow),
    )


def _content_passes(rules: list[Rule], flow: Flow) -> bool:
    """True if the rules, taken together, let pass what is known of the flow's content."""
    named = [
        rule
        for rule in rules
        if rule.server_names is None
        or flow.server_name is None
        or server_name_passes(rule.server_names, flow.server_name)
    ]
    asked = [rule.l7 for rule in named if rule.l7 is not None]
    if flow.request is None or len(asked) < len(named):
        return bool(named)
    return request_passes(asked, flow.request)


def authentication_of(rules: Iterable[Rule], flow: Flow) -> AuthMode | None:
    """What the allowing rules that match a flow ask for together.

    The narrowest rule that says anything decides; of equally narrow ones the strictest.
    """
    saying = [
        (-_breadth(rule, flow), list(AuthMode).index(rule.authentication), rule.authentication)
        for rule in rules
        if rule.authentication is not None
    ]
    decided = max(saying)[-1] if saying else None
    return None if decided is AuthMode.DISABLED else decided


def _breadth(rule: Rule, flow: Flow) -> int:
    """How many ports the rule covers around the flow's."""
    if rule.ports is None:
        return len(Protocol) * (LAST_PORT + 1)
    return min(
        1 if ports.name else ports.last - ports.first + 1
        for ports in rule.ports
        if ports_match((ports,), flow)
    )


def _is_named(ports: Ports, flow: Flow) -> bool:
    given = NamedPort(name=ports.name, protocol=flow.protocol, port=flow.port)
    return ports.protocol is flow.protocol and flow.destination.calls(given)


def service_matches(wanted: ServicePeer, given: Service) -> bool:
    """True if a rule that names services means this one."""
    if wanted.namespace and wanted.namespace != given.namespace:
        return False
    if wanted.name:
        return wanted.name == given.name
    return wanted.selector is not None and wanted.selector.matches(given.labels)


def _names(matched: list[_Match]) -> tuple[RuleId, ...]:
    return tuple(sorted({match.id for match in matched}))


def _isolating(policies: list[Policy], direction: Direction) -> tuple[PolicyId, ...]:
    return tuple(sorted({policy.id for policy in policies if direction in policy.default_deny}))
