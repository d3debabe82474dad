"""The map model: judge a flow exactly as the kernel does, from the same values.

In:   Generation, AddressPlan, the two ends of a flow
Out:  Judgement
Pure. Four lookups and a comparison; `bpf/policy.h` is the same in C.

Holds always:
1. An address without an identity, or an identity without a class, is refused.
2. Agrees with `netpolicy.evaluate` on every flow, in outcome; the rules it names are among those named there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from netpolicy.evaluate import Outcome
from netpolicy.rules import Direction, RuleId
from nodeagent.plan.generation import (
    ANY_CLASS,
    ANY_PORT_CLASS,
    ANY_PROTOCOL,
    NO_PORT_CLASS,
    AddressPlan,
    Attribution,
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)

_UNSELECTED = Attribution(Outcome.UNSELECTED, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One side's answer. `because` is None only where the identity or the table is unknown. What is
    redirected is allowed, and goes on by the proxy's port."""

    allowed: bool
    verdict: Verdict | None
    because: Attribution | None
    proxy_port: int = 0

    @property
    def outcome(self) -> Outcome | None:
        """Why, in the words of `netpolicy.evaluate`."""
        return self.because.outcome if self.because else None

    @property
    def rules(self) -> tuple[RuleId, ...]:
        """The rules or policies behind the answer."""
        return self.because.rules if self.because else ()


_UNKNOWN = Judgement(allowed=False, verdict=None, because=None)


def identity_of(plan: AddressPlan, address: str) -> int | None:
    """The identity behind an address: the exact entry, else the longest prefix."""
    wanted = ip_address(address)
    if (found := plan.exact.get(str(wanted))) is not None:
        return found
    covering = [cidr for cidr in plan.prefixes if wanted in ip_network(cidr)]
    if not covering:
        return None
    return plan.prefixes[max(covering, key=lambda cidr: ip_network(cidr).prefixlen)]


def judge(
    generation: Generation,
    *,
    endpoint_id: int,
    direction: Direction,
    peer_identity: int | None,
    protocol: int,
    port: int,
) -> Judgement:
    """Judge one direction of a new flow at one endpoint."""
    table = generation.endpoint_tables.get(endpoint_id)
    peer_class = None if peer_identity is None else generation.class_of.get(peer_identity)
    if table is None or peer_class is None:
        return _UNKNOWN
    most_specific = PolicyKey(
        table.table,
        peer_class,
        int(direction),
        protocol,
        _port_class(generation, protocol, port),
    )
    found = _strongest(generation.policy, most_specific)
    if found is None:
        return _by_default(generation, table, direction)
    return Judgement(
        allowed=found.verdict is not Verdict.DENY,
        verdict=found.verdict,
        because=generation.attributions[found.cookie],
        proxy_port=found.proxy_port,
    )


def _port_class(generation: Generation, protocol: int, port: int) -> int:
    classes = generation.port_class_of.get(protocol)
    return NO_PORT_CLASS if classes is None or port >= len(classes) else classes[port]


def _strongest(
    policy: Mapping[PolicyKey, PolicyEntry], most_specific: PolicyKey
) -> PolicyEntry | None:
    """The four lookups, most specific first: a later one must be stronger to win."""
    strongest: PolicyEntry | None = None
    for key in lookup_keys(most_specific):
        entry = policy.get(key)
        if entry is not None and (strongest is None or entry.verdict > strongest.verdict):
            strongest = entry
    return strongest


def lookup_keys(most_specific: PolicyKey) -> tuple[PolicyKey, ...]:
    """The keys a verdict looks up, in order: class and port, class, port, neither."""
    any_port = replace(most_specific, protocol=ANY_PROTOCOL, port_class=ANY_PORT_CLASS)
    return (
        most_specific,
        any_port,
        replace(most_specific, peer_class=ANY_CLASS),
        replace(any_port, peer_class=ANY_CLASS),
    )


def _by_default(generation: Generation, table: EndpointTable, direction: Direction) -> Judgement:
    if direction is Direction.INGRESS:
        denies, cookie = TableFlag.DENY_INGRESS in table.flags, table.ingress_cookie
    else:
        denies, cookie = TableFlag.DENY_EGRESS in table.flags, table.egress_cookie
    because = generation.attributions[cookie] if cookie else _UNSELECTED
    return Judgement(allowed=not denies, verdict=None, because=because)
