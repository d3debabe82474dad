"""TG221: connections of one kind to one port of a pod are treated in one way.

A proxy passes TLS on as it is, or ends it; towards a server it begins TLS, or does not. Rules of policies
with equal subjects meet for certain; where subjects only overlap, an agent refuses what it cannot do at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from netpolicy.document import NodePath
from netpolicy.errors import Diagnostic
from netpolicy.labels import Selector
from netpolicy.rules import Direction, TlsContext
from reconciler.codes import fault
from reconciler.objects.defaults import subject_selector
from reconciler.objects.policy import PolicyObject, PortField, PortGroup
from reconciler.validate.port_claims import PortClaim, allowing_groups, claim_of, conflicts

_CLEAR: Final = "connections in clear"
_TLS: Final = "TLS"

Place = tuple[Selector, Direction, str, str]
"""Whose port, by name if it has one, and which of its connections."""
Treatment = tuple[bool, TlsContext | None, TlsContext | None]
"""Is TLS passed on as it is; where it is ended; where it is begun."""


def check_mixed_tls(policies: Iterable[PolicyObject]) -> Iterator[Diagnostic]:
    """Find connections that two rules want treated in two ways."""
    claims: defaultdict[Place, list[PortClaim[Treatment]]] = defaultdict(list)
    for policy in policies:
        for direction, group in _reading_groups(policy):
            for field in group:
                for kind in _kinds(group):
                    place = (subject_selector(policy), direction, field.name, kind)
                    claims[place].append(_claim(policy, group, field))
    for place, made in claims.items():
        for one, other in conflicts(made):
            yield fault(
                one.policy.document,
                one.at,
                "TG221",
                f"{place[-1]} to a port where {other.policy.id} wants another treatment",
                on_key=True,
            )


def _reading_groups(policy: PolicyObject) -> Iterator[tuple[Direction, PortGroup]]:
    for direction, group in allowing_groups(policy):
        is_http = group.l7 is not None and group.l7.http is not None
        if group.asks_for_content and (group.l7 is None or is_http) and not group.listener:
            yield direction, group


def _kinds(group: PortGroup) -> Iterator[str]:
    """The kinds of connection that a group is for: those that ask for a name are apart where TLS is ended."""
    if group.terminating_tls is None:
        yield _CLEAR if group.server_names is None else _TLS
    elif group.server_names is None:
        yield _TLS
    else:
        yield from (f"{_TLS} for {one.name or one.pattern}" for one in group.server_names)


def _claim(policy: PolicyObject, group: PortGroup, field: PortField) -> PortClaim[Treatment]:
    passed_on = group.terminating_tls is None and group.server_names is not None
    treatment = (passed_on, group.terminating_tls, group.originating_tls)
    return claim_of(field, wish=treatment, policy=policy, at=_written_at(group))


def _written_at(group: PortGroup) -> NodePath:
    """Where the group says how connections are treated."""
    if group.originating_tls is not None:
        return (*group.at, "originatingTLS")
    if group.terminating_tls is not None:
        return (*group.at, "terminatingTLS")
    return (*group.at, "rules" if group.server_names is None else "serverNames")
