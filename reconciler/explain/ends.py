"""Who is meant by an end as a person names it: a pod, an address, a name, an entity, or labels.

In:   the text of two ends; the inventory, if there is one
Out:  NamedEnd values, or StalledError that says what would be understood
Pure.

Holds always:
1. An end that cannot be told is refused: a guess would explain another flow than the one asked for.
2. A node is `host` to the pods it runs and `remote-node` to all others, as on the nodes themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Final

from netpolicy.dns_names import canonical_name, is_name
from netpolicy.entities import ENTITIES, RESERVED_LABELS, ReservedIdentity
from netpolicy.errors import StalledError
from netpolicy.evaluate import End
from netpolicy.identity import node_labels, pod_labels
from netpolicy.inventory import Inventory, Node, Pod, labels_of
from netpolicy.services import ClusterService, service_end

DEFAULT_NAMESPACE: Final = "default"
SERVICE: Final = "service/"
SHAPES: Final = (
    "an end is NAMESPACE/POD, service/NAMESPACE/NAME, an address, a DNS name, an entity such as world or"
    " host, or labels such as app=web,ns=shop"
)

_ENTITIES: Final = {
    identity.name.lower().replace("_", "-"): identity
    for identity in ReservedIdentity
    if identity is not ReservedIdentity.UNKNOWN
}
_NAMESPACE_WORDS: Final = ("ns", "namespace")
_ACCOUNT_WORDS: Final = ("sa", "serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEnd:
    """An end, what to call it, and the pod it is (None for labels, addresses and entities)."""

    name: str
    end: End
    pod: Pod | None = None
    node: str = ""


def resolve_ends(
    source: str, destination: str, inventory: Inventory | None
) -> tuple[NamedEnd, NamedEnd]:
    """Both ends of a flow."""
    known = inventory or Inventory()
    first, second = _resolve(source, known), _resolve(destination, known)
    return _seen_by(first, second), _seen_by(second, first)


def _seen_by(end: NamedEnd, other: NamedEnd) -> NamedEnd:
    """A node as the other end's pod sees it."""
    if end.pod is None and end.node and other.pod is not None and other.node == end.node:
        host = RESERVED_LABELS[ReservedIdentity.HOST]
        return replace(end, end=replace(end.end, labels=host))
    return end


def _resolve(text: str, inventory: Inventory) -> NamedEnd:
    if "=" in text:
        return _labelled(text, inventory)
    if text in _ENTITIES:
        return _entity(text)
    if text in ENTITIES:
        raise StalledError(f"{text} stands for several ends; name one of them")
    if text.startswith(SERVICE):
        return _service_named(text, inventory)
    if "/" in text:
        return _pod_named(text, inventory)
    try:
        address = str(ip_address(text))
    except ValueError:
        return _node_named(text, inventory)
    return _at_address(address, inventory)


def _labelled(text: str, inventory: Inventory) -> NamedEnd:
    """A pod that need not exist, made of `key=value` texts; `ns=` and `sa=` say where it runs."""
    labels: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        source, colon, name = key.partition(":")
        if not equals or not key or (colon and source not in ("k8s", "any")):
            raise StalledError(f'"{part}" is no label of a pod: write key=value')
        labels[name if colon else key] = value
    namespace = _taken(labels, _NAMESPACE_WORDS) or DEFAULT_NAMESPACE
    account = _taken(labels, _ACCOUNT_WORDS)
    identity = pod_labels(
        cluster=inventory.cluster,
        namespace=namespace,
        labels=labels,
        namespace_labels=inventory.namespaces.get(namespace, {}),
        service_account=account,
    )
    own = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return NamedEnd(name=f"{namespace}/({own})", end=End(labels=identity))


def _taken(labels: dict[str, str], words: tuple[str, ...]) -> str:
    """The value under one of these words, which is then no label any more."""
    return next((labels.pop(word) for word in words if word in labels), "")


def _entity(name: str) -> NamedEnd:
    labels = RESERVED_LABELS[_ENTITIES[name]]
    return NamedEnd(name=name, end=End(labels=labels, is_endpoint=False))


def _pod_named(text: str, inventory: Inventory) -> NamedEnd:
    namespace, _, name = text.partition("/")
    for pod in inventory.pods:
        if (pod.namespace, pod.name) == (namespace, name):
            return _pod(pod, inventory, pod.addresses[0] if pod.addresses else "")
    if not inventory.pods:
        raise StalledError(
            f"{text}: without an inventory no pod is known; give --inventory. {SHAPES}"
        )
    names = [f"{pod.namespace}/{pod.name}" for pod in inventory.pods]
    near = get_close_matches(text, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise StalledError(f"{text}: the inventory has no such pod{hint}")


def _node_named(text: str, inventory: Inventory) -> NamedEnd:
    for node in inventory.nodes:
        if node.name == text:
            return _node(node, node.addresses[0] if node.addresses else "")
    if "." in text and is_name(text):
        return _outside(text)
    raise StalledError(f'"{text}" names no one: {SHAPES}')


def _outside(name: str) -> NamedEnd:
    """An address of the world that DNS gave for this name; which one does not matter."""
    labels = RESERVED_LABELS[ReservedIdentity.WORLD_IPV4]
    end = End(labels=labels, is_endpoint=False, dns_names=(canonical_name(name),))
    return NamedEnd(name=f"{name} (world)", end=end)


def _at_address(address: str, inventory: Inventory) -> NamedEnd:
    for pod in inventory.pods:
        if address in pod.addresses:
            return _pod(pod, inventory, address)
    for node in inventory.nodes:
        if address in node.addresses:
            return _node(node, address)
    for service in inventory.services:
        if address in service.addresses:
            return _service(service, inventory)
    is_v6 = ":" in address
    world = ReservedIdentity.WORLD_IPV6 if is_v6 else ReservedIdentity.WORLD_IPV4
    end = End(labels=RESERVED_LABELS[world], address=address, is_endpoint=False)
    return NamedEnd(name=f"{address} (world)", end=end)


def _pod(pod: Pod, inventory: Inventory, address: str) -> NamedEnd:
    end = End(labels=labels_of(inventory, pod), address=address)
    return NamedEnd(name=f"{pod.namespace}/{pod.name}", end=end, pod=pod, node=pod.node)


def _service(service: ClusterService, inventory: Inventory) -> NamedEnd:
    pods = (_pod(pod, inventory, "").end for pod in inventory.pods)
    name = f"{SERVICE}{service.namespace}/{service.name}"
    return NamedEnd(name=name, end=service_end(service, pods))


def _service_named(text: str, inventory: Inventory) -> NamedEnd:
    for service in inventory.services:
        if text == f"{SERVICE}{service.namespace}/{service.name}":
            return _service(service, inventory)
    raise StalledError(f"{text}: the inventory has no such service")


def _node(node: Node, address: str) -> NamedEnd:
    labels = node_labels(ReservedIdentity.REMOTE_NODE, node.labels)
    end = End(labels=labels, address=address, is_endpoint=False)
    return NamedEnd(name=f"node {node.name}", end=end, node=node.name)
