"""TG220: one port of a pod carries requests of one protocol.

Rules of policies with equal subjects meet for certain; where subjects only overlap, TG333 warns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from netpolicy.errors import Diagnostic
from netpolicy.labels import Selector
from netpolicy.rules import Direction, L7Rules, Protocol
from reconciler.codes import fault
from reconciler.objects.defaults import field_protocols, subject_selector
from reconciler.objects.policy import PolicyObject
from reconciler.validate.port_claims import PortClaim, allowing_groups, claim_of, conflicts

Place = tuple[Selector, Direction, Protocol, str]


def check_mixed_requests(policies: Iterable[PolicyObject]) -> Iterator[Diagnostic]:
    """Find ports that two rules want read as two protocols."""
    claims: defaultdict[Place, list[PortClaim[str]]] = defaultdict(list)
    for policy in policies:
        for direction, group in allowing_groups(policy):
            if group.l7 is None:
                continue
            kind, at = request_kind(group.l7), (*group.at, "rules")
            for field in group:
                for protocol in field_protocols(field, group):
                    place = (subject_selector(policy), direction, protocol, field.name)
                    claims[place].append(claim_of(field, wish=kind, policy=policy, at=at))
    for made in claims.values():
        for one, other in conflicts(made):
            yield fault(
                one.policy.document,
                one.at,
                "TG220",
                f"{one.wish} rules on a port that {other.policy.id} reads as {other.wish}",
                on_key=True,
            )


def request_kind(rules: L7Rules) -> str:
    """The protocol whose requests these rules are about."""
    if rules.http is not None:
        return "http"
    if rules.dns is not None:
        return "dns"
    return "kafka" if rules.kafka is not None else rules.parser
