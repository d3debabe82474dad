"""TG327–TG329: policies that cut off DNS, the API server or the reconciler itself.

A lifeline is a connection that a cluster needs to mend itself: without it names do not resolve, nothing new
starts, or no policy that would repair the fault arrives any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from netpolicy.errors import Diagnostic
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

RECONCILER_NAMESPACE: Final = "tidegate-system"
RECONCILER_LABELS: Final = {"app.kubernetes.io/name": "tidegate-reconciler"}


def _pods(namespace: str, labels: dict[str, str]) -> LabelSpace:
    placed = equals(NAMESPACE_KEY, namespace, source=KUBERNETES_SOURCE)
    return label_space(selector([placed, *(equals(key, value) for key, value in labels.items())]))


def entity_space(name: str) -> LabelSpace:
    """Whoever has this reserved label."""
    present = Requirement(source=RESERVED_SOURCE, key=name, operator=Operator.EXISTS)
    return label_space(selector([present]))


def _tcp(port: int) -> Ports:
    return Ports(protocol=Protocol.TCP, first=port, last=port)


def _any_pod() -> LabelSpace:
    placed = Requirement(source=KUBERNETES_SOURCE, key=NAMESPACE_KEY, operator=Operator.EXISTS)
    return label_space(selector([placed]))


DNS_SERVERS: Final = (_pods("kube-system", {"k8s-app": "kube-dns"}),)
DNS_PORTS: Final = (Ports(protocol=Protocol.UDP, first=53, last=53), _tcp(53))

_RECONCILER: Final = _pods(RECONCILER_NAMESPACE, RECONCILER_LABELS)
_API_SERVER: Final = PeerSet((entity_space("kube-apiserver"),))
_API_PORTS: Final = (_tcp(443), _tcp(6443))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifeline:
    """A connection of some endpoint, seen from it, and what fails without."""

    code: str
    endpoint: LabelSpace
    direction: Direction
    peers: PeerSet
    ports: tuple[Ports, ...] | None
    lost: str


LIFELINES: Final = (
    Lifeline(
        code="TG327",
        endpoint=DNS_SERVERS[0],
        direction=Direction.INGRESS,
        peers=PeerSet((_any_pod(),)),
        ports=DNS_PORTS,
        lost="no pod can ask the cluster's DNS servers",
    ),
    Lifeline(
        code="TG328",
        endpoint=DNS_SERVERS[0],
        direction=Direction.EGRESS,
        peers=_API_SERVER,
        ports=_API_PORTS,
        lost="the cluster's DNS servers cannot reach the API server",
    ),
    Lifeline(
        code="TG329",
        endpoint=_RECONCILER,
        direction=Direction.EGRESS,
        peers=_API_SERVER,
        ports=_API_PORTS,
        lost="the reconciler cannot reach the API server",
    ),
    Lifeline(
        code="TG329",
        endpoint=_RECONCILER,
        direction=Direction.EGRESS,
        peers=PeerSet(None),
        ports=(_tcp(22), _tcp(443)),
        lost="the reconciler can reach no Git server",
    ),
    Lifeline(
        code="TG329",
        endpoint=_RECONCILER,
        direction=Direction.INGRESS,
        peers=PeerSet((entity_space("remote-node"),)),
        ports=None,
        lost="no agent of another node can reach the reconciler",
    ),
)


def check_lifelines(index: WrittenIndex) -> Iterator[Diagnostic]:
    """Find the policies that cut a lifeline: deny it, or isolate its end and allow nothing like it."""
    for lifeline in LIFELINES:
        selecting = tuple(index.surely_select(lifeline.endpoint))
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
        for written in index.may_select(lifeline.endpoint)
        for rule in written.rules_for(lifeline.direction, Action.ALLOW)
    )
