"""What Tidegate reads of pods, nodes and namespaces, and what it makes of them.

In:   objects of the core API, decoded with all other fields left out
Out:  KubePod, Node, label mappings
Pure. msgspec and not Cerberus: no author wrote these, the API server checked them, and there are many.

Holds always:
1. A pod that shares its node's network has no address of its own: what it sends is the node's.
2. A pod that has run to its end has none either: its address may be another's by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import msgspec

from netpolicy.ends import NamedPort
from netpolicy.inventory import Node, Pod
from netpolicy.rules import LAST_PORT, WITH_PORTS
from netpolicy.services import ClusterService, ServicePort

PODS: Final = "/api/v1/pods"
NODES: Final = "/api/v1/nodes"
NAMESPACES: Final = "/api/v1/namespaces"
API_SERVER_ENDPOINTS: Final = "/api/v1/namespaces/default/endpoints"
OF_API_SERVER: Final = {"fieldSelector": "metadata.name=kubernetes"}
"""The one object of that path: where the API server answers."""

SERVICES: Final = "/api/v1/services"
API_SERVER: Final = ("default", "kubernetes")
"""The service that leads to the API server."""

MAX_ADDRESSES: Final = 16
MAX_PORTS: Final = 256

_PROTOCOLS: Final = {protocol.name: protocol for protocol in WITH_PORTS}
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_NODE_ADDRESSES: Final = frozenset({"InternalIP", "ExternalIP"})


class ObjectMeta(msgspec.Struct):
    """The metadata of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""
    generation: int = 0
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class KubeObject(msgspec.Struct):
    """Any object."""

    metadata: ObjectMeta


class _Address(msgspec.Struct):
    ip: str = ""


class _Port(msgspec.Struct):
    containerPort: int = 0
    name: str = ""
    protocol: str = "TCP"


class _Container(msgspec.Struct):
    ports: list[_Port] | None = None
    restartPolicy: str = ""


class _PodSpec(msgspec.Struct):
    nodeName: str = ""
    serviceAccountName: str = ""
    hostNetwork: bool = False
    containers: list[_Container] | None = None
    initContainers: list[_Container] | None = None


class _PodStatus(msgspec.Struct):
    phase: str = ""
    podIP: str = ""
    podIPs: list[_Address] | None = None


class PodObject(KubeObject):
    """A pod as it is decoded."""

    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _NodeAddress(msgspec.Struct):
    type: str = ""
    address: str = ""


class _NodeStatus(msgspec.Struct):
    addresses: list[_NodeAddress] | None = None


class NodeObject(KubeObject):
    """A node as it is decoded."""

    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class NamespaceObject(KubeObject):
    """A namespace as it is decoded."""


class _Subset(msgspec.Struct):
    addresses: list[_Address] | None = None


class EndpointsObject(KubeObject):
    """Endpoints as they are decoded."""

    subsets: list[_Subset] | None = None


class _ServicePort(msgspec.Struct):
    port: int = 0
    protocol: str = "TCP"
    targetPort: int | str | None = None


class _ServiceSpec(msgspec.Struct):
    clusterIP: str = ""
    clusterIPs: list[str] | None = None
    type: str = ""
    selector: dict[str, str] | None = None
    ports: list[_ServicePort] | None = None


class ServiceObject(KubeObject):
    """A service as it is decoded."""

    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubePod:
    """A pod with a network of its own, on a node. `created` orders pods that claim one address."""

    pod: Pod
    uid: str
    created: str
    is_leaving: bool


def pod_view(one: PodObject) -> KubePod | None:
    """What is kept of a pod; None for one that has no network of its own, or no node."""
    spec, status, meta = one.spec, one.status, one.metadata
    if spec.hostNetwork or not spec.nodeName or status.phase in _ENDED:
        return None
    given = [each.ip for each in status.podIPs or ()] or [status.podIP]
    return KubePod(
        pod=Pod(
            namespace=meta.namespace,
            name=meta.name,
            node=spec.nodeName,
            uid=meta.uid,
            addresses=_addresses(given),
            labels=meta.labels or {},
            service_account=spec.serviceAccountName,
            ports=_named_ports(spec),
        ),
        uid=meta.uid,
        created=meta.creationTimestamp or "",
        is_leaving=meta.deletionTimestamp is not None,
    )


def node_view(one: NodeObject) -> Node:
    """What is kept of a node."""
    given = [each.address for each in one.status.addresses or () if each.type in _NODE_ADDRESSES]
    return Node(
        name=one.metadata.name, addresses=_addresses(given), labels=one.metadata.labels or {}
    )


def namespace_view(one: NamespaceObject) -> Mapping[str, str]:
    """What is kept of a namespace: its labels."""
    return one.metadata.labels or {}


def endpoints_view(one: EndpointsObject) -> tuple[str, ...]:
    """What is kept of endpoints: the addresses behind them."""
    return _addresses([each.ip for part in one.subsets or () for each in part.addresses or ()])


def service_view(one: ServiceObject) -> ClusterService | None:
    """What is kept of a service; None for one without addresses of its own."""
    spec, meta = one.spec, one.metadata
    addresses = _addresses(spec.clusterIPs or [spec.clusterIP])
    if not addresses or spec.type == "ExternalName":
        return None
    return ClusterService(
        namespace=meta.namespace,
        name=meta.name,
        addresses=addresses,
        labels=meta.labels or {},
        selector=spec.selector or {},
        ports=tuple(sorted(_service_ports(spec))),
    )


def _service_ports(spec: _ServiceSpec) -> Iterator[ServicePort]:
    for one in (spec.ports or ())[:MAX_PORTS]:
        protocol = _PROTOCOLS.get(one.protocol)
        if protocol is None or not 1 <= one.port <= LAST_PORT:
            continue
        target = one.targetPort or one.port  # left out, or 0: the same port
        if isinstance(target, str):
            yield ServicePort(protocol=protocol, port=one.port, target_name=target)
        elif 1 <= target <= LAST_PORT:
            yield ServicePort(protocol=protocol, port=one.port, target=target)


def _addresses(texts: list[str]) -> tuple[str, ...]:
    """Those that are addresses, in their one spelling, each once, in the order given."""
    found: dict[str, None] = {}
    for text in texts[:MAX_ADDRESSES]:
        try:
            found[str(ip_address(text))] = None
        except ValueError:
            continue
    return tuple(found)


def _named_ports(spec: _PodSpec) -> tuple[NamedPort, ...]:
    """The ports that have a name: of the containers, and of those that start first and stay."""
    stay = [each for each in spec.initContainers or () if each.restartPolicy == "Always"]
    found: dict[tuple[str, str], NamedPort] = {}
    for container in [*stay, *(spec.containers or ())]:
        for port in (container.ports or ())[:MAX_PORTS]:
            name, protocol = port.name.lower(), _PROTOCOLS.get(port.protocol)
            if name and protocol is not None and 1 <= port.containerPort <= LAST_PORT:
                found.setdefault(
                    (name, port.protocol),
                    NamedPort(name=name, protocol=protocol, port=port.containerPort),
                )
    return tuple(sorted(found.values()))
