"""Which flows a proxy must judge, by which rules, and on which of its ports.

In:   a table's policies; the listeners that stand
Out:  the rule set behind each key that redirects; Listeners, and the port of each key
Pure.

A verdict is the strongest entry's, while what passes in the end is the union of every rule that allows
the flow (`netpolicy.evaluate`). So each key that redirects holds the rules of all less specific ones, and
where two of them meet, {class, any} and {any, port}, a key {class, port} is added that holds both.

Holds always:
1. The entry that a lookup ends at has the rules of every key that the lookup passes.
2. A set without a listener has port 0, which the kernel refuses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, TypeAlias

from netpolicy.capabilities import Capability
from netpolicy.rules import Action, Direction, Policy, Rule
from nodeagent.l7.listeners import (
    DEFAULT_PORTS,
    NO_LISTENERS,
    Listeners,
    Place,
    PortRange,
    assign,
    reseated,
)
from nodeagent.l7.rule_sets import ProxyRule, RuleSet, proxy_rule, rule_set
from nodeagent.plan.enforceable import CAPABILITIES
from nodeagent.plan.generation import ANY_CLASS, ANY_PORT_CLASS, EndpointTable, PolicyKey
from nodeagent.plan.model import lookup_keys

KeysOf: TypeAlias = Callable[[Rule], Iterable[PolicyKey]]
RuleSets: TypeAlias = Mapping[PolicyKey, RuleSet]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyPorts:
    """Where ports come from: listeners that stand, the proxy's range, ports that others hold.

    `is_closed`: no set gets a port that it does not have already.
    """

    standing: Listeners = NO_LISTENERS
    ports: PortRange = DEFAULT_PORTS
    held: frozenset[int] = field(default_factory=frozenset)
    is_closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySide:
    """What planning is to know of the node's proxy. `standing`: the seats that were found at the start."""

    capabilities: frozenset[Capability] = CAPABILITIES
    ports: PortRange = DEFAULT_PORTS
    standing: Listeners = NO_LISTENERS


NO_PROXY: Final = ProxySide()
NO_PORTS_YET: Final = ProxyPorts()


def redirected(policies: Sequence[Policy], keys_of: KeysOf) -> dict[PolicyKey, RuleSet]:
    """For one table, the keys whose flows a proxy judges. A key that a deny covers is left out."""
    if not any(rule.redirects for policy in policies for rule in policy.rules):
        return {}
    allowing: defaultdict[PolicyKey, list[ProxyRule]] = defaultdict(list)
    denied: set[PolicyKey] = set()
    redirecting: set[PolicyKey] = set()
    for policy in policies:
        for rule in policy.rules:
            for key in keys_of(rule):
                if rule.action is Action.DENY:
                    denied.add(key)
                    continue
                allowing[key].append(proxy_rule(policy, rule))
                if rule.redirects:
                    redirecting.add(key)
    return {
        key: rule_set(rule for one in lookup_keys(key) for rule in allowing.get(one, ()))
        for key in _meeting(redirecting, allowing)
        if denied.isdisjoint(lookup_keys(key))
    }


def _meeting(redirecting: set[PolicyKey], allowing: Iterable[PolicyKey]) -> set[PolicyKey]:
    """The keys that redirect, and those more specific ones at which others meet them."""
    found = set(redirecting)
    by_direction: defaultdict[int, list[PolicyKey]] = defaultdict(list)
    for key in allowing:
        by_direction[key.direction].append(key)
    for _ in range(2):  # everything meets {class, any}, which then meets {any, port}
        for general in [key for key in found if _leaves_open(key)]:
            for other in by_direction[general.direction]:
                found.update(_both(general, other))
    return found


def _leaves_open(key: PolicyKey) -> bool:
    return key.peer_class == ANY_CLASS or key.port_class == ANY_PORT_CLASS


def _both(one: PolicyKey, other: PolicyKey) -> Iterator[PolicyKey]:
    """The key of the flows that both keys match, if there are any."""
    if ANY_CLASS not in (one.peer_class, other.peer_class) and one.peer_class != other.peer_class:
        return
    ports = {(key.protocol, key.port_class) for key in (one, other)} - {(0, ANY_PORT_CLASS)}
    if len(ports) > 1:
        return
    protocol, port_class = next(iter(ports), (0, ANY_PORT_CLASS))
    yield replace(
        one,
        peer_class=max(one.peer_class, other.peer_class),
        protocol=protocol,
        port_class=port_class,
    )


def places_of(
    keys: Iterable[PolicyKey],
    *,
    endpoint_ids: Mapping[int, tuple[int, ...]],
    class_of: Mapping[int, int],
    port_class_of: Mapping[int, Sequence[int]],
) -> dict[PolicyKey, frozenset[Place]]:
    """Where each key judges. `endpoint_ids`: those of each table."""
    given = tuple(keys)
    members: defaultdict[int, list[int]] = defaultdict(list)
    wanted = {key.peer_class for key in given}
    for identity, number in class_of.items():
        if number in wanted:
            members[number].append(identity)
    members[ANY_CLASS] = [0]
    starts = {p: _starts(port_class_of.get(p, ())) for p in {key.protocol for key in given}}
    return {
        key: frozenset(
            Place(endpoint_id, Direction(key.direction), key.protocol, port, identity)
            for endpoint_id in endpoint_ids[key.table]
            for port in starts[key.protocol].get(key.port_class, (0,))
            for identity in members[key.peer_class]
        )
        for key in given
    }


def _starts(classes: Sequence[int]) -> Mapping[int, tuple[int, ...]]:
    """For each class, the first port of each range that it is made of."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    first = 0
    for number, run in groupby(classes):
        found[number].append(first)
        first += sum(1 for _ in run)
    return {number: tuple(ports) for number, ports in found.items()}


def listen(
    sets: RuleSets, places: Mapping[PolicyKey, frozenset[Place]], proxy: ProxyPorts
) -> tuple[Listeners, dict[PolicyKey, int]]:
    """The listeners that the sets need, and the port of each key. Raises StalledError if there are too few
    ports."""
    if proxy.is_closed:
        known = {
            (seat.direction, seat.digest): seat.port
            for seat in sorted(proxy.standing.seats, key=lambda seat: -seat.port)
        }
        return proxy.standing, {
            key: known.get((Direction(key.direction), one.digest), 0) for key, one in sets.items()
        }
    wanted = {place: one for key, one in sets.items() for place in places[key]}
    given = assign(proxy.standing, wanted, ports=proxy.ports, held=proxy.held)
    by_place = given.port_by_place()
    ports = {key: min((by_place[place] for place in places[key]), default=0) for key in sets}
    return reseated(given, places_by_port(ports, places)), ports


def places_by_port(
    ports: Mapping[PolicyKey, int], places: Mapping[PolicyKey, frozenset[Place]]
) -> dict[int, frozenset[Place]]:
    """Where each port judges."""
    found: defaultdict[int, set[Place]] = defaultdict(set)
    for key, port in ports.items():
        if port:
            found[port] |= places[key]
    return {port: frozenset(some) for port, some in found.items()}


def endpoints_by_table(tables: Mapping[int, EndpointTable]) -> dict[int, tuple[int, ...]]:
    """The endpoints of each table, in order."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    for endpoint_id, table in sorted(tables.items()):
        found[table.table].append(endpoint_id)
    return {number: tuple(ids) for number, ids in found.items()}
