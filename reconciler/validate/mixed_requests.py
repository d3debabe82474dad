"""TG220: one port of a pod carries requests of one protocol.

Rules of policies with equal subjects meet for certain; where subjects only overlap, TG333 warns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netpolicy.document import NodePath
from netpolicy.errors import Diagnostic
from netpolicy.labels import Selector
from netpolicy.rules import LAST_PORT, Action, Direction, L7Rules, Protocol
from reconciler.codes import fault
from reconciler.objects.defaults import field_protocols, subject_selector
from reconciler.objects.policy import PolicyObject, PortField, PortGroup

Place = tuple[Selector, Direction, Protocol, str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A range of ports, and the protocol whose requests a rule looks into there."""

    first: int
    last: int
    kind: str
    policy: PolicyObject
    at: NodePath


def check_mixed_requests(policies: Iterable[PolicyObject]) -> Iterator[Diagnostic]:
    """Find ports that two rules want read as two protocols."""
    asked: defaultdict[Place, list[_Asked]] = defaultdict(list)
    for policy in policies:
        for direction, group, kind in _reading_groups(policy):
            for field in group:
                for protocol in field_protocols(field, group):
                    place = (subject_selector(policy), direction, protocol, field.name)
                    asked[place].append(_asked(policy, group, field, kind))
    for found in asked.values():
        yield from _conflicts(found)


def request_kind(rules: L7Rules) -> str:
    """The protocol whose requests these rules are about."""
    if rules.http is not None:
        return "http"
    if rules.dns is not None:
        return "dns"
    return "kafka" if rules.kafka is not None else rules.parser


def _reading_groups(policy: PolicyObject) -> Iterator[tuple[Direction, PortGroup, str]]:
    for section in policy.sections:
        for rule in section.rules if section.action is Action.ALLOW else ():
            for group in rule.ports or ():
                if group.l7 is not None:
                    yield section.direction, group, request_kind(group.l7)


def _asked(policy: PolicyObject, group: PortGroup, field: PortField, kind: str) -> _Asked:
    first = field.port or 0
    last = field.end_port or (field.port or LAST_PORT)
    return _Asked(first, last, kind, policy, (*group.at, "rules"))


def _conflicts(asked: list[_Asked]) -> Iterator[Diagnostic]:
    """Sweep over the ranges by their first port: another kind still open there is a conflict."""
    open_until: dict[str, _Asked] = {}
    for one in sorted(asked, key=lambda a: (a.first, a.policy.document.path, a.at)):
        for kind, other in open_until.items():
            if kind != one.kind and other.last >= one.first:
                yield fault(
                    one.policy.document,
                    one.at,
                    "TG220",
                    f"{one.kind} rules on a port that {other.policy.id} reads as {kind}",
                    on_key=True,
                )
        widest = open_until.get(one.kind)
        if widest is None or widest.last < one.last:
            open_until[one.kind] = one
