"""Who is in the cluster: nodes, namespaces and pods, from whatever source.

In:   a source's records (an inventory file, later the Kubernetes API)
Out:  Inventory; the label set behind each address
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from netpolicy.ends import NamedPort
from netpolicy.entities import ReservedIdentity
from netpolicy.identity import node_labels, pod_labels
from netpolicy.labels import Labels
from netpolicy.services import ClusterService, service_labels

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node and its own addresses (no prefix length)."""

    name: str
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod. `interface` names its host-side interface where the source knows it (standalone); `ports` are
    those to which its containers give a name; `uid` tells it from others of its name, before and after.
    """

    namespace: str
    name: str
    node: str
    uid: str = ""
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    interface: str = ""
    mac: str = ""
    ports: tuple[NamedPort, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The whole cluster at one moment. `namespaces` maps each name to its labels; `api_server` has the
    addresses that the Kubernetes API server answers on; `services` are those that select pods."""

    cluster: str = "default"
    nodes: tuple[Node, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    api_server: tuple[str, ...] = ()
    services: tuple[ClusterService, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressEntry:
    """What stands behind one address: a pod (`namespace` set), a node, a service, or the API server."""

    address: str
    labels: Labels
    namespace: str = ""
    name: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[T]):
    """What went and what came; what changed is among both."""

    gone: tuple[T, ...] = ()
    come: tuple[T, ...] = ()

    def __len__(self) -> int:
        return len(self.gone) + len(self.come)


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryStep:
    """One inventory, and how its pods differ from those of the one before."""

    inventory: Inventory
    pods: Change[Pod]


def step_to(inventory: Inventory, *, before: Inventory | None) -> InventoryStep:
    """The step between any two, found by comparing them; None: from nothing."""
    was = {(pod.namespace, pod.name): pod for pod in (before.pods if before else ())}
    now = {(pod.namespace, pod.name): pod for pod in inventory.pods}
    gone = tuple(pod for key, pod in was.items() if now.get(key) != pod)
    come = tuple(pod for key, pod in now.items() if was.get(key) != pod)
    return InventoryStep(inventory=inventory, pods=Change(gone=gone, come=come))


def labels_of(inventory: Inventory, pod: Pod) -> Labels:
    """The identity of a pod of this inventory."""
    return pod_labels(
        cluster=inventory.cluster,
        namespace=pod.namespace,
        labels=pod.labels,
        namespace_labels=inventory.namespaces.get(pod.namespace, {}),
        service_account=pod.service_account,
        ports=pod.ports,
    )


def address_entries(inventory: Inventory) -> tuple[AddressEntry, ...]:
    """Every address of the cluster, sorted; nodes as `remote-node` (each agent knows its own)."""
    entries = [*_node_entries(inventory), *_api_server_entries(inventory)]
    entries += [entry for service in inventory.services for entry in service_entries(service)]
    for pod in inventory.pods:
        entries += pod_entries(pod, labels_of(inventory, pod))
    return tuple(sorted(entries, key=lambda entry: (entry.address, entry.namespace, entry.name)))


def pod_entries(pod: Pod, labels: Labels) -> tuple[AddressEntry, ...]:
    """The addresses of a pod of this identity."""
    return tuple(
        AddressEntry(
            address=address,
            labels=labels,
            namespace=pod.namespace,
            name=pod.name,
            node=pod.node,
        )
        for address in pod.addresses
    )


def service_entries(service: ClusterService) -> tuple[AddressEntry, ...]:
    """The addresses of a service."""
    labels, name = service_labels(service), f"service/{service.namespace}/{service.name}"
    return tuple(AddressEntry(address=each, labels=labels, name=name) for each in service.addresses)


def _node_entries(inventory: Inventory) -> Iterator[AddressEntry]:
    """The nodes; one that the API server answers on is that as well."""
    for node in inventory.nodes:
        for address in node.addresses:
            reserved = (
                ReservedIdentity.KUBE_APISERVER
                if address in inventory.api_server
                else ReservedIdentity.REMOTE_NODE
            )
            labels = node_labels(reserved, node.labels)
            yield AddressEntry(address=address, labels=labels, name=node.name, node=node.name)


def _api_server_entries(inventory: Inventory) -> Iterator[AddressEntry]:
    """Addresses of the API server that are no node's."""
    of_nodes = {address for node in inventory.nodes for address in node.addresses}
    labels = node_labels(ReservedIdentity.KUBE_APISERVER, {})
    for address in inventory.api_server:
        if address not in of_nodes:
            yield AddressEntry(address=address, labels=labels, name="kube-apiserver")
