"""Carry a generation on to other identities and endpoints without building all of it again.

In:   Built, the endpoints and identities as they are now
Out:  Built, equal in every value and digest to one built anew
Pure.

Pods come and go far more often than policies change, and most are of a kind that is known: then only
classes and endpoints change, by as many entries as there are pods.

Holds always:
1. What is carried on equals what is built anew: whatever could differ has it built anew. That is an
   identity of an unseen kind, the last one of its kind leaving, other port names while a rule goes by
   them, endpoints that need another set of tables, and another service, or one that leads elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from netpolicy.labels import Labels
from netpolicy.rules import Policy
from netpolicy.services import is_service
from nodeagent.l7.listeners import Listeners, reseated
from nodeagent.plan.build import Built, Table, build, class_of, group_endpoints
from nodeagent.plan.digest import class_digest, endpoint_digest
from nodeagent.plan.generation import EndpointTable, Generation, LocalEndpoint
from nodeagent.plan.named_ports import own_port_labels
from nodeagent.plan.peer_classes import PeerClasses
from nodeagent.plan.redirects import (
    NO_PORTS_YET,
    ProxyPorts,
    endpoints_by_table,
    places_by_port,
    places_of,
)
from nodeagent.plan.services import carry_on, without_services


def rebuild(
    built: Built,
    endpoints: Sequence[LocalEndpoint],
    identities: Mapping[int, Labels],
    *,
    proxy: ProxyPorts = NO_PORTS_YET,
) -> Built:
    """The same policies over these endpoints and identities, by the shorter way if it can be taken.

    The proxy's listeners stay where they are; `proxy` says where further ones come from.
    """
    carried = regroup(built, endpoints, identities)
    if carried is not None:
        return carried
    return build(
        built.given,
        endpoints,
        identities,
        admit_local_host=built.admit_local_host,
        proxy=replace(proxy, standing=built.listeners),
    )


def regroup(
    built: Built, endpoints: Sequence[LocalEndpoint], identities: Mapping[int, Labels]
) -> Built | None:
    """The shorter way; None if it cannot be taken."""
    before = built.identities
    if identities is before and tuple(endpoints) == built.endpoints:
        return built
    added = {n: own for n, own in identities.items() if n not in before or before[n] != own}
    removed = {n: own for n, own in before.items() if n not in identities or n in added}
    if _goes_by_names(built.policies, built.given) and _declare_ports(added, removed):
        return None
    if any(is_service(own) for some in (added, removed) for own in some.values()):
        return None
    peers = _regrouped(built.peers, added, removed)
    tables = _regrouped_tables(built, endpoints, identities, added)
    if peers is None or tables is None:
        return None
    services = carry_on(
        built.services,
        without_services(identities),
        peers.class_of,
        changed=[*added.values(), *removed.values()],
    )
    if services is None:
        return None
    classes = class_of(peers, services)
    endpoint_tables = _endpoint_tables(built, tables)
    parts = replace(
        built.parts,
        class_of=class_digest(classes),
        endpoint_tables=endpoint_digest(endpoint_tables),
    )
    generation = replace(
        built.generation,
        class_of=classes,
        endpoint_tables=endpoint_tables,
        digest=parts.whole(),
    )
    return replace(
        built,
        generation=generation,
        endpoints=tuple(endpoints),
        identities=identities,
        tables=tables,
        peers=peers,
        services=services,
        parts=parts,
        listeners=_reseated(built, generation),
    )


def _reseated(built: Built, generation: Generation) -> Listeners:
    """The listeners, judging for the endpoints and identities of today."""
    if not built.rule_sets:
        return built.listeners
    places = places_of(
        built.rule_sets,
        endpoint_ids=endpoints_by_table(generation.endpoint_tables),
        class_of=generation.class_of,
        port_class_of=generation.port_class_of,
    )
    ports = {key: generation.policy[key].proxy_port for key in built.rule_sets}
    return reseated(built.listeners, places_by_port(ports, places))


def _goes_by_names(resolved: tuple[Policy, ...], given: tuple[Policy, ...]) -> bool:
    """True if rules were multiplied by the ports that peers give a name."""
    return resolved != given


def _declare_ports(*changed: Mapping[int, Labels]) -> bool:
    return any(own_port_labels(own) for some in changed for own in some.values())


def _regrouped(
    peers: PeerClasses, added: Mapping[int, Labels], removed: Mapping[int, Labels]
) -> PeerClasses | None:
    """The partition with other identities; None if a class would come or go."""
    placed = peers.place(added)
    if placed is None:
        return None
    class_of = {n: found for n, found in peers.class_of.items() if n not in removed} | placed
    if len(Counter(class_of.values())) != len(Counter(peers.class_of.values())):
        return None
    return replace(peers, class_of=class_of)


def _regrouped_tables(
    built: Built,
    endpoints: Sequence[LocalEndpoint],
    identities: Mapping[int, Labels],
    added: Mapping[int, Labels],
) -> tuple[Table, ...] | None:
    """The tables with other endpoints in them; None if there would be other tables."""
    if tuple(endpoints) == built.endpoints and not any(e.identity in added for e in endpoints):
        return built.tables
    tables = group_endpoints(built.policies, endpoints, identities)
    if [t.policies for t in tables] != [t.policies for t in built.tables]:
        return None
    return tables


def _endpoint_tables(built: Built, tables: tuple[Table, ...]) -> Mapping[int, EndpointTable]:
    """Every table has an endpoint, so what its endpoints have in common is known."""
    if tables is built.tables:
        return built.generation.endpoint_tables
    alike = {table.table: table for table in built.generation.endpoint_tables.values()}
    return {e: alike[table.number] for table in tables for e in table.endpoint_ids}
