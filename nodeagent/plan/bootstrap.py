"""The policy in force on a node that never received a bundle.

In:   nothing
Out:  policies like any author's, so that plan, maps and flows need no special case
Pure.

Holds always:
1. Every pod is in default deny both ways: an agent that knows no policy opens nothing.
2. What a cluster needs to bring the first bundle here stays open: the host, the API server, DNS.
"""

from __future__ import annotations

from typing import Final

from netpolicy.entities import entity_selectors
from netpolicy.labels import KUBERNETES_SOURCE, NAMESPACE_KEY, Selector, equals, selector
from netpolicy.rules import (
    Action,
    Direction,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
)

_DNS_PORT: Final = 53
_KUBE_DNS: Final = selector(
    [
        equals(NAMESPACE_KEY, "kube-system", source=KUBERNETES_SOURCE),
        equals("k8s-app", "kube-dns", source=KUBERNETES_SOURCE),
    ]
)
_HOST: Final = entity_selectors("host", cluster="")
_API_SERVER: Final = entity_selectors("kube-apiserver", cluster="")

_DNS: Final = (
    Ports(protocol=Protocol.TCP, first=_DNS_PORT, last=_DNS_PORT),
    Ports(protocol=Protocol.UDP, first=_DNS_PORT, last=_DNS_PORT),
)


def _rule(
    direction: Direction,
    origin: str,
    *,
    peers: tuple[Selector, ...] | None,
    ports: tuple[Ports, ...] | None = None,
) -> Rule:
    return Rule(
        direction=direction,
        action=Action.ALLOW,
        origin=origin,
        peers=None if peers is None else Peers(selectors=peers),
        ports=ports,
    )


def _cluster_wide(name: str) -> PolicyId:
    return PolicyId(kind=PolicyKind.CCNP, namespace="", name=name)


BOOTSTRAP_POLICIES: Final = (
    Policy(
        id=_cluster_wide("tidegate-bootstrap"),
        subject=Selector(),
        default_deny=(Direction.INGRESS, Direction.EGRESS),
        rules=(
            _rule(Direction.INGRESS, "ingress[0]", peers=_HOST),
            _rule(Direction.EGRESS, "egress[0]", peers=(*_HOST, *_API_SERVER)),
            _rule(Direction.EGRESS, "egress[1]", peers=(_KUBE_DNS,), ports=_DNS),
        ),
    ),
    Policy(
        id=_cluster_wide("tidegate-bootstrap-dns"),
        subject=_KUBE_DNS,
        rules=(_rule(Direction.INGRESS, "ingress[0]", peers=None, ports=_DNS),),
    ),
)
