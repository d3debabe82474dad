"""Which pods of an inventory are on this node, each under an endpoint id of its own.

In:   Inventory, the node's name
Out:  LocalView: pods with endpoint ids, the node's own addresses, everyone's addresses
Pure.

Holds always:
1. An endpoint id follows from namespace, name and addresses: a restart gives the same, and a pod that
   takes over a name with other addresses gets another, so no conntrack entry of the old one is its.
2. Ids that collide are stepped on in a fixed order. 0 is no endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.identity import node_labels
from netpolicy.inventory import AddressEntry, Inventory, Pod, address_entries, labels_of
from netpolicy.labels import Labels
from nodeagent.plan.inputs import LocalPod


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalView:
    """What the inventory file says that matters to one node."""

    pods: tuple[LocalPod, ...] = ()
    node_addresses: tuple[str, ...] = ()
    node_labels: Labels = RESERVED_LABELS[ReservedIdentity.HOST]
    entries: tuple[AddressEntry, ...] = ()


def local_view(inventory: Inventory, node: str) -> LocalView:
    """This node's part of the inventory."""
    return LocalView(
        pods=local_pods(inventory, node),
        node_addresses=tuple(
            address for own in inventory.nodes if own.name == node for address in own.addresses
        ),
        node_labels=node_labels(
            ReservedIdentity.HOST,
            {
                key: value
                for own in inventory.nodes
                if own.name == node
                for key, value in own.labels.items()
            },
        ),
        entries=address_entries(inventory),
    )


def local_pods(inventory: Inventory, node: str) -> tuple[LocalPod, ...]:
    """This node's pods. Those without an interface or an address are left out."""
    here = [pod for pod in inventory.pods if pod.node == node and pod.interface and pod.addresses]
    ids = endpoint_ids(here)
    return tuple(
        LocalPod(
            endpoint_id=ids[pod.namespace, pod.name],
            namespace=pod.namespace,
            name=pod.name,
            labels=labels_of(inventory, pod),
            addresses=pod.addresses,
            interface=pod.interface,
            mac=pod.mac,
        )
        for pod in here
    )


def endpoint_ids(pods: Iterable[Pod]) -> dict[tuple[str, str], int]:
    """Namespace and name → endpoint id."""
    ids: dict[tuple[str, str], int] = {}
    taken = {0}
    for pod in sorted(pods, key=lambda pod: (pod.namespace, pod.name)):
        number = _hashed(pod)
        while number in taken:
            number = (number + 1) & 0xFFFF_FFFF
        taken.add(number)
        ids[pod.namespace, pod.name] = number
    return ids


def _hashed(pod: Pod) -> int:
    text = "\n".join((pod.namespace, pod.name, *sorted(pod.addresses)))
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big")
