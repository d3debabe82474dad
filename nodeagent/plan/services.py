"""What a generation says of the addresses of services.

In:   the identities of the node's peers, pods and services alike; their classes; the entries of one table
Out:  a class for each service; further entries
Pure.

A packet to a service leaves its pod with the service's address: the node leads it on to a pod afterwards.
So it is judged by everyone whom it might be led to (`netpolicy.evaluate`, 6). Since all are known when a
generation is made, that takes no lookup more: services that lead to the same classes on the same ports
share a class of their own, and `service_rulings` has an entry for each of their ports.

Holds always:
1. A service is no peer of its own: no selector and no block means it.
2. An entry for a service's port is never wider than what the table says of any backend.
3. Classes depend on what services lead to, not on the numbers of identities.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from netpolicy.evaluate import service_matches
from netpolicy.labels import KUBERNETES_SOURCE, NAMESPACE_KEY, Labels
from netpolicy.rules import Policy, Ports, Rule
from netpolicy.services import ClusterService, ServicePort, is_service, named_port, service_of
from nodeagent.plan.generation import ANY_CLASS
from nodeagent.plan.membership import Membership

Identities: TypeAlias = Mapping[int, Labels]
Services: TypeAlias = Mapping[int, ClusterService]
Backend: TypeAlias = tuple[int, int]
"""A peer class and a port."""

Shape: TypeAlias = tuple[tuple[int, int, tuple[Backend, ...]], ...]
"""What a service leads to: for each protocol and port of its own, the backends. Sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceClasses:
    """The services there are. `class_of`: identity → class; `shapes`: class by shape."""

    services: Services
    shape_of: Mapping[int, Shape]
    shapes: Mapping[Shape, int]

    @property
    def class_of(self) -> Mapping[int, int]:
        """The class of each service's identity."""
        return {number: self.shapes[shape] for number, shape in self.shape_of.items()}


def without_services(identities: Identities) -> Identities:
    """The identities that are peers: pods, nodes, blocks of addresses."""
    if not any(map(is_service, identities.values())):
        return identities
    return {number: labels for number, labels in identities.items() if not is_service(labels)}


def services_among(identities: Identities) -> Services:
    """The services. One that cannot be read leads nowhere."""
    found = {n: service_of(labels) for n, labels in identities.items() if is_service(labels)}
    unread = ClusterService(namespace="", name="")
    return {number: service or unread for number, service in found.items()}


def ports_of(services: Services) -> frozenset[Ports]:
    """The services' own ports, which need classes of their own."""
    return frozenset(
        Ports(protocol=one.protocol, first=one.port, last=one.port)
        for service in services.values()
        for one in service.ports
    )


def resolve_services(policies: tuple[Policy, ...], services: Services) -> tuple[Policy, ...]:
    """The policies with the pods behind services in the place of the services that rules name."""
    if not names_services(policies):
        return policies
    known = sorted(services.values(), key=lambda service: (service.namespace, service.name))
    return tuple(
        replace(policy, rules=tuple(_resolved(rule, known) for rule in policy.rules))
        for policy in policies
    )


def names_services(policies: Iterable[Policy]) -> bool:
    """True if any rule names a service."""
    return any(rule.peers and rule.peers.services for policy in policies for rule in policy.rules)


def _resolved(rule: Rule, services: list[ClusterService]) -> Rule:
    if rule.peers is None or not rule.peers.services:
        return rule
    behind = {
        service.pods
        for wanted in rule.peers.services
        for service in services
        if service.pods is not None and service_matches(wanted, service.named)
    }
    selectors = tuple(sorted({*rule.peers.selectors, *behind}))
    return replace(rule, peers=replace(rule.peers, selectors=selectors, services=()))


def classify_services(
    services: Services, peers: Identities, class_of: Mapping[int, int]
) -> ServiceClasses:
    """Give each service its class, above those of the peers."""
    shape_of = _shapes(services, peers, class_of)
    first = max(class_of.values(), default=0) + 1
    shapes = {shape: number for number, shape in enumerate(sorted({*shape_of.values()}), first)}
    return ServiceClasses(services=services, shape_of=shape_of, shapes=shapes)


def carry_on(
    before: ServiceClasses,
    peers: Identities,
    class_of: Mapping[int, int],
    *,
    changed: Iterable[Labels],
) -> ServiceClasses | None:
    """The classes when peers with these labels came or went; None if a class would come or go."""
    places = frozenset(map(_namespace, changed))
    affected = {n: service for n, service in before.services.items() if service.namespace in places}
    shape_of = {**before.shape_of, **_shapes(affected, peers, class_of)}
    if {*shape_of.values()} != before.shapes.keys():
        return None
    return replace(before, shape_of=shape_of)


def _shapes(services: Services, peers: Identities, class_of: Mapping[int, int]) -> dict[int, Shape]:
    wanted = {service.namespace for service in services.values()}
    by_namespace: defaultdict[str, dict[int, Labels]] = defaultdict(dict)
    for number, labels in peers.items():
        if wanted and (namespace := _namespace(labels)) in wanted:
            by_namespace[namespace][number] = labels
    members = {name: Membership(found) for name, found in by_namespace.items()}
    found = {}
    for number, service in services.items():
        inside, pods = members.get(service.namespace), service.pods
        behind = inside.selected(pods) if inside is not None and pods is not None else ()
        found[number] = tuple(
            (int(one.protocol), one.port, _backends(one, behind, peers, class_of))
            for one in service.ports
        )
    return found


def _backends(
    port: ServicePort, behind: Iterable[int], peers: Identities, class_of: Mapping[int, int]
) -> tuple[Backend, ...]:
    """Those of the pods; one that does not give the port its name is led nothing. Of none: anyone there."""
    led = ((class_of[n], port.target or named_port(port, peers[n])) for n in behind)
    found = {(peer_class, target) for peer_class, target in led if target}
    return tuple(sorted(found)) or ((ANY_CLASS, port.target),)


def _namespace(labels: Labels) -> str:
    return labels.get(KUBERNETES_SOURCE, NAMESPACE_KEY) or ""


def frontends(classes: ServiceClasses) -> Iterator[tuple[int, int, int, tuple[Backend, ...]]]:
    """Each service class with each of its ports: class, protocol, port, backends."""
    for shape, number in classes.shapes.items():
        for protocol, port, backends in shape:
            yield number, protocol, port, backends
