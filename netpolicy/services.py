"""Services of the cluster: an address in front of pods, and how the feed tells of it.

In:   a ClusterService; or the labels behind an address
Out:  the labels that tell of the service; the service back from them; the service as an end of a flow
Pure.

What stands behind a service is told by its selector, not by a list of addresses: agents know all pods
anyway, so a pod that comes or goes is no change of the service. That may be more than a proxy of the node
sends to (a pod that is not ready is selected, too), never less.

Holds always:
1. No author's selector can mean a service's labels: their keys hold a colon, which no label's key may.
2. `service_of(service_labels(s))` is `s` without its addresses.
3. Labels that tell of no service, or not of a whole one, are none: the feed may say anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from netpolicy.ends import End, Frontend, Service, port_key
from netpolicy.labels import (
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    PORT_SOURCE,
    Label,
    Labels,
    Selector,
    equals,
    selector,
)
from netpolicy.rules import LAST_PORT, WITH_PORTS, Protocol

SERVICE_SOURCE: Final = "service"
_NAME: Final = "is:name"
_LABEL: Final = "label:"
_SELECTS: Final = "selects:"
_PORT: Final = "port:"
_PROTOCOLS: Final = {protocol.word: protocol for protocol in WITH_PORTS}
MEMO_ENTRIES: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServicePort:
    """A port of a service, and where it leads: a number, or (`target_name`) what each pod gives that name."""

    protocol: Protocol
    port: int
    target: int = 0
    target_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterService:
    """A service with addresses of its own. An empty selector selects nobody: others say what is behind it."""

    namespace: str
    name: str
    addresses: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()

    @property
    def pods(self) -> Selector | None:
        """Whom it selects; None for nobody."""
        return _pods(self.namespace, tuple(self.selector.items())) if self.selector else None

    @property
    def named(self) -> Service:
        """The service as rules mean it."""
        labels = (Label(KUBERNETES_SOURCE, key, value) for key, value in self.labels.items())
        return Service(namespace=self.namespace, name=self.name, labels=Labels(labels))


def service_labels(service: ClusterService) -> Labels:
    """The labels that stand behind the service's addresses."""
    return Labels(_told(service))


def _told(service: ClusterService) -> Iterator[Label]:
    yield Label(SERVICE_SOURCE, _NAME, f"{service.namespace}/{service.name}")
    for key, value in service.labels.items():
        yield Label(SERVICE_SOURCE, _LABEL + key, value)
    for key, value in service.selector.items():
        yield Label(SERVICE_SOURCE, _SELECTS + key, value)
    for one in service.ports:
        key = f"{_PORT}{one.protocol.word}:{one.port}"
        yield Label(SERVICE_SOURCE, key, one.target_name or str(one.target))


def service_end(service: ClusterService, pods: Iterable[End]) -> End:
    """The service as the other end of a flow, in front of those of the pods that it selects."""
    chosen = service.pods
    behind = [pod for pod in pods if chosen is not None and chosen.matches(pod.labels)]
    return End(
        labels=Labels(),
        address=service.addresses[0] if service.addresses else "",
        is_endpoint=False,
        is_service=True,
        frontends=tuple(
            Frontend(
                protocol=one.protocol,
                port=one.port,
                target=one.target,
                backends=tuple((pod, port) for pod in behind if (port := _led_to(one, pod))),
            )
            for one in service.ports
        ),
    )


def _led_to(port: ServicePort, pod: End) -> int:
    """Where the pod is led to; 0 for nowhere: it does not give the port its name."""
    return port.target or named_port(port, pod.labels)


def named_port(port: ServicePort, labels: Labels) -> int:
    """The port to which a pod with these labels gives the name that the service leads to; 0 for none."""
    key = port_key(port.protocol, port.target_name.lower())
    return _number(labels.get(PORT_SOURCE, key) or "")


def is_service(labels: Labels) -> bool:
    """True if these labels tell of a service, whole or not."""
    return labels.get(SERVICE_SOURCE, _NAME) is not None


@lru_cache(maxsize=MEMO_ENTRIES)  # plan after plan asks it of every service
def service_of(labels: Labels) -> ClusterService | None:
    """The service that labels tell of; None if they tell of none, or cannot be read."""
    namespace, slash, name = (labels.get(SERVICE_SOURCE, _NAME) or "").partition("/")
    if not (namespace and slash and name):
        return None
    ports = [_port(label) for label in labels if label.key.startswith(_PORT)]
    if None in ports:
        return None
    return ClusterService(
        namespace=namespace,
        name=name,
        labels=_under(labels, _LABEL),
        selector=_under(labels, _SELECTS),
        ports=tuple(sorted(port for port in ports if port is not None)),
    )


def _under(labels: Labels, prefix: str) -> dict[str, str]:
    return {
        label.key.removeprefix(prefix): label.value
        for label in labels
        if label.source == SERVICE_SOURCE and label.key.startswith(prefix)
    }


def _port(label: Label) -> ServicePort | None:
    word, _, number = label.key.removeprefix(_PORT).partition(":")
    protocol, port = _PROTOCOLS.get(word), _number(number)
    if protocol is None or not port or not label.value:
        return None
    target = _number(label.value)
    return ServicePort(
        protocol=protocol, port=port, target=target, target_name="" if target else label.value
    )


def _number(text: str) -> int:
    """The port, or 0 for what is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if number <= LAST_PORT else 0


def _pods(namespace: str, wanted: tuple[tuple[str, str], ...]) -> Selector:
    own = [equals(key, value, source=KUBERNETES_SOURCE) for key, value in wanted]
    return selector([equals(NAMESPACE_KEY, namespace, source=KUBERNETES_SOURCE), *own])
