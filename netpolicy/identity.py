"""Identities: label sets, and the numbers a node gives them.

In:   label sets; pods and nodes of an inventory
Out:  Labels as Cilium would name them; a number for each label set
Pure. Numbers mean nothing outside one node.

Holds always:
1. One label set, one number; a number once given is kept while its label set is in use.
2. Numbers 1 to 10 are the reserved identities; others have a scope bit, so the two never meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from netpolicy.ends import NamedPort, port_label
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.labels import (
    CLUSTER_KEY,
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    NAMESPACE_LABELS_PREFIX,
    NODE_SOURCE,
    RESERVED_SOURCE,
    SERVICE_ACCOUNT_KEY,
    Label,
    Labels,
)

LABEL_SCOPE: Final = 1 << 30
"""Set in the number of an identity made of pod labels."""

CIDR_SCOPE: Final = 1 << 31
"""Set in the number of an identity that stands for a block of outside addresses."""

_HASH_MASK: Final = (1 << 30) - 1


def pod_labels(
    *,
    cluster: str,
    namespace: str,
    labels: Mapping[str, str],
    namespace_labels: Mapping[str, str],
    service_account: str = "",
    ports: Iterable[NamedPort] = (),
) -> Labels:
    """The label set of a pod: its own, its namespace's, its cluster's and its account's, its named ports."""
    own = [Label(KUBERNETES_SOURCE, key, value) for key, value in labels.items()]
    inherited = [
        Label(KUBERNETES_SOURCE, NAMESPACE_LABELS_PREFIX + key, value)
        for key, value in namespace_labels.items()
    ]
    placed = [
        Label(KUBERNETES_SOURCE, NAMESPACE_KEY, namespace),
        Label(KUBERNETES_SOURCE, CLUSTER_KEY, cluster),
    ]
    if service_account:
        placed.append(Label(KUBERNETES_SOURCE, SERVICE_ACCOUNT_KEY, service_account))
    # A pod label may not pretend to be where the pod runs.
    taken = {label.key for label in (*inherited, *placed)}
    own = [label for label in own if label.key not in taken]
    return Labels([*own, *inherited, *placed, *map(port_label, ports)])


def node_labels(reserved: ReservedIdentity, labels: Mapping[str, str]) -> Labels:
    """The label set of a node, this one or another: what it is, and its own labels under their own source."""
    own = (Label(NODE_SOURCE, key, value) for key, value in labels.items())
    return Labels([*RESERVED_LABELS[reserved], *own])


def cidr_labels(cidr: str) -> Labels:
    """The label set of a block of outside addresses: the block, and the world it is part of."""
    family = "world-ipv6" if ":" in cidr else "world-ipv4"
    return Labels(
        [
            Label("cidr", cidr),
            Label(RESERVED_SOURCE, "world"),
            Label(RESERVED_SOURCE, family),
        ]
    )


def number_identities(
    label_sets: Iterable[Labels], *, kept: Mapping[Labels, int] | None = None
) -> dict[Labels, int]:
    """Give each label set its number: reserved, kept from before, or a hash of its labels.

    A number that is taken is stepped on until one is free; label sets are served in sorted order,
    so equal inputs give equal numbers.
    """
    numbers = {labels: int(number) for number, labels in RESERVED_LABELS.items()}
    wanted = set(label_sets)
    if kept:
        numbers |= {labels: kept[labels] for labels in wanted if labels in kept}
    taken = set(numbers.values())
    for labels in sorted(wanted - numbers.keys(), key=lambda labels: labels.items):
        number = _hashed(labels)
        while number in taken:
            number = (number & ~_HASH_MASK) | ((number + 1) & _HASH_MASK)
        numbers[labels] = number
        taken.add(number)
    return numbers


def _hashed(labels: Labels) -> int:
    text = "\n".join(map(str, labels)).encode()
    scope = CIDR_SCOPE if any(label.source == "cidr" for label in labels) else LABEL_SCOPE
    return scope | (int.from_bytes(sha256(text).digest()[:4], "big") & _HASH_MASK)
