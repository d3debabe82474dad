"""TG327–TG329: policies that cut off DNS, the API server or the reconciler itself.

A lifeline is a connection that a cluster needs to mend itself: without it names do not resolve, nothing new
starts, or no policy that would repair the fault arrives any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory
from netpolicy.labels import (
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    RESERVED_SOURCE,
    Operator,
    Requirement,
    equals,
    selector,
)
from netpolicy.rules import Action, Direction, Ports, Protocol
from reconciler.validate.flow_sets import PeerSet, ports_cover, ports_may_share
from reconciler.validate.selector_sets import LabelSpace, label_space
from reconciler.validate.written import Written, WrittenIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Pods that keep a cluster going, by the labels that they usually have."""

    namespace: str
    labels: Mapping[str, str]

    @property
    def space(self) -> LabelSpace:
        """Whatever has these labels there."""
        placed = equals(NAMESPACE_KEY, self.namespace, source=KUBERNETES_SOURCE)
        wanted = (equals(key, value) for key, value in self.labels.items())
        return label_space(selector([placed, *wanted]))

    def is_in(self, inventory: Inventory) -> bool:
        """True if a pod of the inventory is such a one."""
        return any(
            pod.namespace == self.namespace and self.labels.items() <= pod.labels.items()
            for pod in inventory.pods
        )


def entity_space(name: str) -> LabelSpace:
    """Whoever has this reserved label."""
    present = Requirement(source=RESERVED_SOURCE, key=name, operator=Operator.EXISTS)
    return label_space(selector([present]))


def _tcp(port: int) -> Ports:
    return Ports(protocol=Protocol.TCP, first=port, last=port)


def _any_pod() -> LabelSpace:
    placed = Requirement(source=KUBERNETES_SOURCE, key=NAMESPACE_KEY, operator=Operator.EXISTS)
    return label_space(selector([placed]))


DNS_SERVER: Final = Workload(namespace="kube-system", labels={"k8s-app": "kube-dns"})
RECONCILER: Final = Workload(
    namespace="tidegate-system", labels={"app.kubernetes.io/name": "tidegate-reconciler"}
)
DNS_SERVERS: Final = (DNS_SERVER.space,)
DNS_PORTS: Final = (Ports(protocol=Protocol.UDP, first=53, last=53), _tcp(53))

_API_SERVER: Final = PeerSet((entity_space("kube-apiserver"),))
_API_PORTS: Final = (_tcp(443), _tcp(6443))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifeline:
    """A connection of some workload, seen from it, and what fails without."""

    code: str
    of: Workload
    direction: Direction
    peers: PeerSet
    ports: tuple[Ports, ...] | None
    lost: str


LIFELINES: Final = (
    Lifeline(
        code="TG327",
        of=DNS_SERVER,
        direction=Direction.INGRESS,
        peers=PeerSet((_any_pod(),)),
        ports=DNS_PORTS,
        lost="no pod can ask the cluster's DNS servers",
    ),
    Lifeline(
        code="TG328",
        of=DNS_SERVER,
        direction=Direction.EGRESS,
        peers=_API_SERVER,
        ports=_API_PORTS,
        lost="the cluster's DNS servers cannot reach the API server",
    ),
    Lifeline(
        code="TG329",
        of=RECONCILER,
        direction=Direction.EGRESS,
        peers=_API_SERVER,
        ports=_API_PORTS,
        lost="the reconciler cannot reach the API server",
    ),
    Lifeline(
        code="TG329",
        of=RECONCILER,
        direction=Direction.EGRESS,
        peers=PeerSet(None),
        ports=(_tcp(22), _tcp(443)),
        lost="the reconciler can reach no Git server",
    ),
    Lifeline(
        code="TG329",
        of=RECONCILER,
        direction=Direction.INGRESS,
        peers=PeerSet((entity_space("remote-node"),)),
        ports=None,
        lost="no agent of another node can reach the reconciler",
    ),
)


def lifelines_in(inventory: Inventory | None) -> tuple[Lifeline, ...]:
    """The lifelines of workloads that are there; without an inventory, all that a cluster usually has."""
    if inventory is None or not inventory.pods:
        return LIFELINES
    return tuple(lifeline for lifeline in LIFELINES if lifeline.of.is_in(inventory))


def check_lifelines(lifelines: Iterable[Lifeline], index: WrittenIndex) -> Iterator[Diagnostic]:
    """Find the policies that cut a lifeline: deny it, or isolate its end and allow nothing like it."""
    for lifeline in lifelines:
        selecting = tuple(index.surely_select(lifeline.of.space))
        denied = False
        for written in selecting:
            for rule in written.rules_for(lifeline.direction, Action.DENY):
                if ports_cover(rule.rule.ports, lifeline.ports) and rule.peers.covers(
                    lifeline.peers
                ):
                    denied = True
                    yield written.warn(lifeline.code, lifeline.lost, origin=rule.rule.origin)
        if not denied and not _may_be_allowed(lifeline, index):
            for written in selecting:
                if written.isolates(lifeline.direction):
                    yield written.warn(lifeline.code, lifeline.lost)


def check_denied_names(written: Written) -> Iterator[Diagnostic]:
    """Find the deny rules that keep pods from the cluster's DNS servers."""
    for rule in written.rules_for(Direction.EGRESS, Action.DENY):
        if ports_cover(rule.rule.ports, DNS_PORTS[:1]) and rule.peers.covers(PeerSet(DNS_SERVERS)):
            message = "the pods of this policy cannot ask the cluster's DNS servers"
            yield written.warn("TG327", message, origin=rule.rule.origin)


def _may_be_allowed(lifeline: Lifeline, index: WrittenIndex) -> bool:
    return any(
        ports_may_share(rule.rule.ports, lifeline.ports)
        and rule.peers.may_share_any(lifeline.peers)
        for written in index.may_select(lifeline.of.space)
        for rule in written.rules_for(lifeline.direction, Action.ALLOW)
    )
