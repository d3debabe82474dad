"""TG221: connections of one kind to one port of a pod are treated in one way.

A proxy passes TLS on as it is, or ends it; towards a server it begins TLS, or does not. Rules of policies
with equal subjects meet for certain; where subjects only overlap, TG334 warns, and TG404 names the pods.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final
from typing import Protocol as Interface

from netpolicy.errors import Diagnostic
from netpolicy.labels import Selector
from netpolicy.positions import NodePath
from netpolicy.rules import Direction, L7Rules, NamePattern, TlsContext
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


class Reading(Interface):
    """What asks a proxy to look into connections: a rule as written, or as compiled."""

    @property
    def l7(self) -> L7Rules | None: ...

    @property
    def server_names(self) -> tuple[NamePattern, ...] | None: ...

    @property
    def terminating_tls(self) -> TlsContext | None: ...

    @property
    def originating_tls(self) -> TlsContext | None: ...

    @property
    def listener(self) -> str: ...


def reads_connections(one: Reading) -> bool:
    """True if a proxy tells connections apart for it: by TLS, or to read HTTP."""
    if one.l7 is not None:
        return one.l7.http is not None and not one.listener
    return treats_tls(one) and not one.listener


def treats_tls(one: Reading) -> bool:
    """True if it says more of connections than that HTTP in clear is read."""
    asked = (one.server_names, one.terminating_tls, one.originating_tls)
    return any(part is not None for part in asked)


def kinds_of(one: Reading) -> Iterator[str]:
    """The kinds of connection it is for: those that ask for a name are apart where TLS is ended.

    To the proxy, which looks for a connection's place by its name, `*.` and `**.` are the same.
    """
    if one.terminating_tls is None:
        yield _CLEAR if one.server_names is None else _TLS
    elif one.server_names is None:
        yield _TLS
    else:
        names = {name.name or name.pattern.replace("**.", "*.") for name in one.server_names}
        yield from (f"{_TLS} for {name}" for name in sorted(names))


def treatment_of(one: Reading) -> Treatment:
    """What it wants done with its connections."""
    passed_on = one.terminating_tls is None and one.server_names is not None
    return passed_on, one.terminating_tls, one.originating_tls


def check_mixed_tls(policies: Iterable[PolicyObject]) -> Iterator[Diagnostic]:
    """Find connections that two rules want treated in two ways."""
    claims: defaultdict[Place, list[PortClaim[Treatment]]] = defaultdict(list)
    for policy in policies:
        for direction, group in _reading_groups(policy):
            for field in group:
                for kind in kinds_of(group):
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
        if reads_connections(group):
            yield direction, group


def _claim(policy: PolicyObject, group: PortGroup, field: PortField) -> PortClaim[Treatment]:
    return claim_of(field, wish=treatment_of(group), policy=policy, at=_written_at(group))


def _written_at(group: PortGroup) -> NodePath:
    """Where the group says how connections are treated."""
    if group.originating_tls is not None:
        return (*group.at, "originatingTLS")
    if group.terminating_tls is not None:
        return (*group.at, "terminatingTLS")
    return (*group.at, "rules" if group.server_names is None else "serverNames")
