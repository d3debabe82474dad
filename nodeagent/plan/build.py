"""Turn policies and the pods of this node into one generation of the kernel's maps.

In:   policies, local endpoints, the labels behind each identity number
Out:  Generation; Built, which `nodeagent.plan.regroup` can carry on from
Pure. Equal inputs give an equal digest, whatever their order.

Holds always:
1. Only policies that are enforced have entries; only rules that select a local endpoint.
2. Of two rules with one key the stronger verdict stands; both names stand if they are equal.
3. Looking a flow up in the result says what `netpolicy.evaluate` says (`nodeagent.plan.model`).

Endpoints that the same policies select share a table, unless they give the ports these name other numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from netpolicy.entities import entity_selectors
from netpolicy.errors import StalledError
from netpolicy.evaluate import Outcome
from netpolicy.labels import Labels
from netpolicy.rules import Action, Direction, Mode, Peers, Policy, Rule, RuleId
from nodeagent.l7.listeners import Listeners
from nodeagent.plan.digest import PartDigests, part_digests
from nodeagent.plan.generation import (
    ANY_CLASS,
    ANY_PORT_CLASS,
    ANY_PROTOCOL,
    Attribution,
    EndpointTable,
    Generation,
    LocalEndpoint,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)
from nodeagent.plan.membership import Membership
from nodeagent.plan.named_ports import (
    names_own_ports,
    own_port_labels,
    resolve_own_ports,
    resolve_peers_ports,
)
from nodeagent.plan.peer_classes import PeerClasses, partition_identities
from nodeagent.plan.port_classes import PortClasses, partition_ports
from nodeagent.plan.redirects import (
    NO_PORTS_YET,
    ProxyPorts,
    RuleSets,
    listen,
    places_of,
    redirected,
)
from nodeagent.plan.rulings import Ruling, stronger
from nodeagent.plan.service_rulings import service_rulings
from nodeagent.plan.services import (
    ServiceClasses,
    classify_services,
    ports_of,
    resolve_services,
    services_among,
    without_services,
)

MAX_POLICY_ENTRIES: Final = 1_000_000
LOCAL_HOST: Final = Peers(selectors=entity_selectors("host", cluster=""))
ENFORCED: Final = frozenset({Mode.ENFORCE})
EVALUATED: Final = frozenset(Mode)
"""What a preview judges by: every policy, wherever it ends up."""


_OUTCOME_OF: Final = {
    Verdict.ALLOW: Outcome.ALLOWED,
    Verdict.REDIRECT: Outcome.ALLOWED,
    Verdict.DENY: Outcome.DENIED_BY_RULE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table before it is filled: the policies that select its endpoints, in order."""

    number: int
    policies: tuple[Policy, ...]
    endpoint_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A generation, what it was built from, and what was found out on the way.

    `policies` are the `given` ones, egress by number; `parts` are the digests of its maps. `rule_sets` are
    behind the keys that redirect, and `listeners` serve them.
    """

    generation: Generation
    endpoints: tuple[LocalEndpoint, ...]
    identities: Mapping[int, Labels]
    admit_local_host: bool
    given: tuple[Policy, ...]
    policies: tuple[Policy, ...]
    tables: tuple[Table, ...]
    peers: PeerClasses
    services: ServiceClasses
    parts: PartDigests
    rule_sets: RuleSets
    listeners: Listeners

    def stands_for(self, given: tuple[Policy, ...], admit_local_host: bool) -> bool:
        """True if it was built from these policies."""
        return self.given == given and self.admit_local_host == admit_local_host


def build_generation(
    policies: Iterable[Policy],
    endpoints: Sequence[LocalEndpoint],
    identities: Mapping[int, Labels],
    *,
    admit_local_host: bool = True,
    modes: frozenset[Mode] = ENFORCED,
) -> Generation:
    """Plan the generation that enforces the policies of these modes on these endpoints.

    `identities` holds every identity a peer may have, and those of the endpoints. Raises
    StalledError if the plan is larger than the maps may grow.
    """
    enforced = in_force(policies, modes)
    return build(enforced, endpoints, identities, admit_local_host=admit_local_host).generation


def in_force(policies: Iterable[Policy], modes: frozenset[Mode]) -> tuple[Policy, ...]:
    """The policies of these modes, in the order that generations are built in."""
    chosen = (policy for policy in policies if policy.mode in modes)
    return tuple(sorted(chosen, key=lambda policy: (policy.id, policy.index)))


def build(
    given: tuple[Policy, ...],
    endpoints: Sequence[LocalEndpoint],
    identities: Mapping[int, Labels],
    *,
    admit_local_host: bool,
    proxy: ProxyPorts = NO_PORTS_YET,
) -> Built:
    """The same, of the policies `in_force` alone, with what it takes to carry on from there."""
    behind = services_among(identities)
    plain = without_services(identities)
    policies = resolve_peers_ports(resolve_services(given, behind), plain)
    tables = group_endpoints(policies, endpoints, identities)
    rules = [rule for table in tables for policy in table.policies for rule in policy.rules]
    peers = partition_identities(plain, [LOCAL_HOST, *(rule.peers for rule in rules)])
    ports = partition_ports([*(p for rule in rules for p in rule.ports or ()), *ports_of(behind)])
    services = classify_services(behind, plain, peers.class_of)
    classes = class_of(peers, services)
    rulings: dict[PolicyKey, Ruling] = {}
    for table in tables:
        _fill_table(rulings, table, peers, ports, services, admit_local_host=admit_local_host)
    rule_sets = {
        key: ruling.rule_set
        for key, ruling in sorted(rulings.items())
        if ruling.rule_set is not None
    }
    places = places_of(
        rule_sets,
        endpoint_ids={table.number: table.endpoint_ids for table in tables},
        class_of=classes,
        port_class_of=ports.port_class_of,
    )
    listeners, proxy_ports = listen(rule_sets, places, proxy)
    unnamed = _numbered(rulings, proxy_ports, tables, classes, ports)
    parts = part_digests(unnamed, rule_sets)
    return Built(
        generation=replace(unnamed, digest=parts.whole()),
        endpoints=tuple(endpoints),
        identities=identities,
        admit_local_host=admit_local_host,
        given=given,
        policies=policies,
        tables=tables,
        peers=peers,
        services=services,
        parts=parts,
        rule_sets=rule_sets,
        listeners=listeners,
    )


def class_of(peers: PeerClasses, services: ServiceClasses) -> Mapping[int, int]:
    """The class of every identity, in the order of their numbers."""
    if not services.shape_of:
        return peers.class_of
    return dict(sorted({**peers.class_of, **services.class_of}.items()))


def group_endpoints(
    policies: Sequence[Policy],
    endpoints: Sequence[LocalEndpoint],
    identities: Mapping[int, Labels],
) -> tuple[Table, ...]:
    """Group the endpoints by the policies that select them, and by the ports these mean in them; number
    the groups by endpoint.
    """
    here = {endpoint.identity for endpoint in endpoints}
    local = Membership({number: identities[number] for number in here})
    selecting: dict[int, list[int]] = {number: [] for number in here}
    for index, policy in enumerate(policies):
        for number in local.selected(policy.subject):
            selecting[number].append(index)
    by_name = {index for index, policy in enumerate(policies) if names_own_ports(policy)}
    groups: dict[tuple[tuple[int, ...], Labels], list[int]] = {}
    for endpoint in sorted(endpoints, key=lambda e: e.endpoint_id):
        chosen = tuple(selecting[endpoint.identity])
        named = by_name.intersection(chosen)
        own = own_port_labels(identities[endpoint.identity]) if named else Labels()
        groups.setdefault((chosen, own), []).append(endpoint.endpoint_id)
    return tuple(
        Table(
            number=number,
            policies=tuple(resolve_own_ports(policies[i], own) for i in chosen),
            endpoint_ids=tuple(endpoint_ids),
        )
        for number, ((chosen, own), endpoint_ids) in enumerate(groups.items(), start=1)
    )


def _fill_table(
    rulings: dict[PolicyKey, Ruling],
    table: Table,
    peers: PeerClasses,
    ports: PortClasses,
    services: ServiceClasses,
    *,
    admit_local_host: bool,
) -> None:
    filled: dict[PolicyKey, Ruling] = {}
    for policy in table.policies:
        for rule in policy.rules:
            ruling = _ruling_of(policy, rule)
            for key in _keys(table.number, rule, peers, ports):
                filled[key] = stronger(filled.get(key), ruling)
        _check_size(len(rulings) + len(filled))
    for key, rule_set in redirected(
        table.policies, lambda rule: _keys(table.number, rule, peers, ports)
    ).items():
        names = tuple(sorted({rule.id for rule in rule_set.rules}))
        filled[key] = Ruling(Verdict.REDIRECT, Attribution(Outcome.ALLOWED, names), rule_set)
    isolation = _isolation(table, Direction.EGRESS)
    unruled = None if isolation is None else Ruling(Verdict.DENY, isolation)
    filled |= service_rulings(filled, table.number, services, ports, unruled=unruled)
    _check_size(len(rulings) + len(filled))
    if admit_local_host:
        for peer_class in peers.classes_of(LOCAL_HOST):
            _admit_local_host(filled, table.number, peer_class)
    rulings |= filled


def _check_size(entries: int) -> None:
    if entries > MAX_POLICY_ENTRIES:
        raise StalledError(
            f"the policies need over {MAX_POLICY_ENTRIES} map entries", reason="PlanTooLarge"
        )


def _ruling_of(policy: Policy, rule: Rule) -> Ruling:
    verdict = Verdict.REDIRECT if rule.redirects else Verdict.ALLOW
    verdict = Verdict.DENY if rule.action is Action.DENY else verdict
    name = RuleId(policy=policy.id, origin=rule.origin)
    return Ruling(verdict, Attribution(_OUTCOME_OF[verdict], (name,)))


def _keys(table: int, rule: Rule, peers: PeerClasses, ports: PortClasses) -> Iterable[PolicyKey]:
    pairs = ports.keys_of(rule.ports)
    for peer_class in peers.classes_of(rule.peers):
        for protocol, port_class in pairs:
            yield PolicyKey(table, peer_class, int(rule.direction), protocol, port_class)


def _admit_local_host(filled: dict[PolicyKey, Ruling], table: int, host_class: int) -> None:
    """Let the node's host in unless a rule denies it.

    The entry {host, any port} would hide the names behind {anyone, port}, which is the less
    specific key of two equal verdicts: so those are repeated for the host.
    """
    ingress = int(Direction.INGRESS)
    host_key = PolicyKey(table, host_class, ingress, ANY_PROTOCOL, ANY_PORT_CLASS)
    if host_key in filled or replace(host_key, peer_class=ANY_CLASS) in filled:
        return
    for key, ruling in tuple(filled.items()):
        if key.peer_class == ANY_CLASS and key.direction == ingress:
            repeated = replace(key, peer_class=host_class)
            filled[repeated] = stronger(filled.get(repeated), ruling)
    filled[host_key] = Ruling(Verdict.ALLOW, Attribution(Outcome.LOCAL_HOST, ()))


def _numbered(
    rulings: Mapping[PolicyKey, Ruling],
    proxy_ports: Mapping[PolicyKey, int],
    tables: tuple[Table, ...],
    classes: Mapping[int, int],
    ports: PortClasses,
) -> Generation:
    isolating = {
        (table.number, direction): _isolation(table, direction)
        for table in tables
        for direction in Direction
    }
    causes = {ruling.because for ruling in rulings.values()}
    causes |= {cause for cause in isolating.values() if cause is not None}
    cookies: dict[Attribution | None, int] = {
        cause: number
        for number, cause in enumerate(sorted(causes, key=lambda c: (c.outcome, c.rules)), start=1)
    }
    attributions = {number: cause for cause, number in cookies.items() if cause is not None}
    cookies[None] = 0
    return Generation(
        policy={
            key: PolicyEntry(ruling.verdict, cookies[ruling.because], proxy_ports.get(key, 0))
            for key, ruling in sorted(rulings.items())
        },
        class_of=classes,
        port_class_of=ports.port_class_of,
        endpoint_tables={
            endpoint_id: _endpoint_table(table.number, isolating, cookies)
            for table in tables
            for endpoint_id in table.endpoint_ids
        },
        attributions=attributions,
        digest="",
    )


def _isolation(table: Table, direction: Direction) -> Attribution | None:
    """Whom to name when nothing matched: the policies that turned default deny on, if any."""
    names = {RuleId(policy=p.id) for p in table.policies if direction in p.default_deny}
    return Attribution(Outcome.DENIED_BY_DEFAULT, tuple(sorted(names))) if names else None


def _endpoint_table(
    table: int,
    isolating: Mapping[tuple[int, Direction], Attribution | None],
    cookies: Mapping[Attribution | None, int],
) -> EndpointTable:
    ingress, egress = isolating[table, Direction.INGRESS], isolating[table, Direction.EGRESS]
    flags = TableFlag(0)
    flags |= TableFlag.DENY_INGRESS if ingress else TableFlag(0)
    flags |= TableFlag.DENY_EGRESS if egress else TableFlag(0)
    return EndpointTable(table, flags, cookies[ingress], cookies[egress])
