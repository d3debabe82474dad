"""What the evaluator judges: a flow between two ends, and what it carries. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from netpolicy.l7 import Request
from netpolicy.labels import PORT_SOURCE, Label, Labels
from netpolicy.rules import Protocol


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class NamedPort:
    """A port to which a pod gives a name (lower case)."""

    name: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Kubernetes service."""

    namespace: str
    name: str
    labels: Labels = field(default_factory=Labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """A port of a service's address, and every pod and port that a connection to it may be led to.

    `target` is where pods are to listen; 0 if that is another port in each.
    """

    protocol: Protocol
    port: int
    target: int = 0
    backends: tuple[tuple[End, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end of a flow. Policies apply to `is_endpoint` ends (pods), and those that select nodes to
    `is_node` ends; others are only peers.

    `named_ports` are those that its labels do not tell; `dns_names` those that DNS resolved to its
    address; `services` those it stands behind. The address of a service is a `is_service` end: what matters
    is who is behind its `frontends`, since the node leads connections there after they left the pod.
    """

    labels: Labels
    address: str = ""
    is_endpoint: bool = True
    is_node: bool = False
    named_ports: tuple[NamedPort, ...] = ()
    dns_names: tuple[str, ...] = ()
    services: tuple[Service, ...] = ()
    is_service: bool = False
    frontends: tuple[Frontend, ...] = ()

    def calls(self, port: NamedPort) -> bool:
        """True if this end gives the port that name."""
        return port in self.named_ports or port_label(port) in self.labels.items


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A new flow: `port` is the destination's, or the ICMP type.

    Without a `request` (or `server_name`, of TLS) only its addresses and ports are judged: where a
    proxy would look further, the answer is that it passes, redirected.
    """

    source: End
    destination: End
    protocol: Protocol
    port: int
    request: Request | None = None
    server_name: str | None = None


def port_key(protocol: Protocol, name: str) -> str:
    """The key of the label that tells a named port. No author can write it: label keys have no colon."""
    return f"{protocol.word}:{name}"


def port_label(port: NamedPort) -> Label:
    """A named port as a label, so that an identity knows its ports."""
    return Label(PORT_SOURCE, port_key(port.protocol, port.name), str(port.port))
