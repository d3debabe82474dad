"""Reserved identities, and the entities that policies name them by.

Source: Cilium 1.19.4's reserved identities (numbers 1 to 10) and its entity table.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from netpolicy.labels import (
    ANY_SOURCE,
    CLUSTER_KEY,
    KUBERNETES_SOURCE,
    RESERVED_SOURCE,
    Label,
    Labels,
    Operator,
    Requirement,
    Selector,
    selector,
)


class ReservedIdentity(IntEnum):
    """Identities whose numbers are the same on every node."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10


def _reserved(*names: str) -> Labels:
    return Labels(Label(RESERVED_SOURCE, name) for name in names)


RESERVED_LABELS: Final[dict[ReservedIdentity, Labels]] = {
    ReservedIdentity.HOST: _reserved("host"),
    ReservedIdentity.WORLD: _reserved("world"),
    ReservedIdentity.UNMANAGED: _reserved("unmanaged"),
    ReservedIdentity.HEALTH: _reserved("health"),
    ReservedIdentity.INIT: _reserved("init"),
    ReservedIdentity.REMOTE_NODE: _reserved("remote-node"),
    ReservedIdentity.KUBE_APISERVER: _reserved("kube-apiserver", "remote-node"),
    ReservedIdentity.INGRESS: _reserved("ingress"),
    ReservedIdentity.WORLD_IPV4: _reserved("world", "world-ipv4"),
    ReservedIdentity.WORLD_IPV6: _reserved("world", "world-ipv6"),
}


def _has(name: str) -> Selector:
    return selector([Requirement(source=RESERVED_SOURCE, key=name, operator=Operator.EXISTS)])


def _in_cluster(cluster: str) -> Selector:
    return selector(
        [
            Requirement(
                source=KUBERNETES_SOURCE, key=CLUSTER_KEY, operator=Operator.IN, values=(cluster,)
            )
        ]
    )


_ONE_TO_ONE: Final = (
    "world", "world-ipv4", "world-ipv6", "host", "remote-node", "kube-apiserver",
    "ingress", "init", "health", "unmanaged",
)  # fmt: skip
_CLUSTER_RESERVED: Final = (
    "host", "remote-node", "kube-apiserver", "ingress", "init", "health", "unmanaged",
)  # fmt: skip

ENTITIES: Final = frozenset({*_ONE_TO_ONE, "all", "cluster", "none"})


def entity_selectors(entity: str, *, cluster: str) -> tuple[Selector, ...]:
    """The selectors an entity stands for; `none` stands for no selector at all.

    Raises KeyError for a name that is no entity (check against ENTITIES first).
    """
    if entity == "all":
        return (Selector(),)
    if entity == "none":
        return ()
    if entity == "cluster":
        return (*(_has(name) for name in _CLUSTER_RESERVED), _in_cluster(cluster))
    if entity in _ONE_TO_ONE:
        return (_has(entity),)
    raise KeyError(entity)


__all__ = [
    "ANY_SOURCE",
    "ENTITIES",
    "RESERVED_LABELS",
    "ReservedIdentity",
    "entity_selectors",
]
