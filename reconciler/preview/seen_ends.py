"""Whom a flow export names: each end once, as the evaluator knows it and as people call it.

In:   flows, of which the bytes of an end, its address and the names DNS gave it; perhaps an inventory
Out:  numbers; SeenEnd values by number
Pure.

Holds always:
1. A pod is told by its labels and name, whatever its address; what is outside, by its address and names.
2. Without labels an end is nobody, unless the inventory knows its address.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import msgspec

from netpolicy.dns_names import canonical_name
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.evaluate import End
from netpolicy.identity import node_labels
from netpolicy.inventory import Inventory, labels_of
from netpolicy.labels import PORT_SOURCE, RESERVED_SOURCE, Label, Labels, parse_labels
from netpolicy.services import service_end
from reconciler.preview.line import Flow

_OUTSIDE: Final = frozenset({"world", "world-ipv4", "world-ipv6"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEnd:
    """An end, and what people call it: its workload where that is known."""

    end: End
    name: str


class _Workload(msgspec.Struct):
    name: str = ""


class _EndJson(msgspec.Struct):
    namespace: str = ""
    labels: list[str] = []
    pod_name: str = ""
    workloads: list[_Workload] = []


class _Ip(msgspec.Struct):
    source: str = ""
    destination: str = ""


_ADDRESSES: Final = msgspec.json.Decoder(_Ip)
_NO_ADDRESS: Final = _Ip()


class EndReader:
    """Numbers ends in the order in which they are met.

    `known`: numbers by the bytes that stand for an end wherever they are; its address says nothing more.
    """

    def __init__(self, inventory: Inventory | None = None) -> None:
        self.seen: list[SeenEnd] = []
        self.known: dict[bytes, int] = {}
        self._numbers: dict[SeenEnd, int] = {}
        self._outside: dict[tuple[bytes, str, tuple[str, ...]], int | None] = {}
        self._decoder = msgspec.json.Decoder(_EndJson)
        self._by_address = _by_address(inventory) if inventory else {}
        self._ports = _named_ports(inventory) if inventory else {}

    def source_of(self, flow: Flow) -> int | None:
        """The number of the sender, known or not; None if nobody can say who it is."""
        return self._number(bytes(flow.source), _ip(flow).source, flow.source_names)

    def destination_of(self, flow: Flow) -> int | None:
        """The number of the receiver."""
        return self._number(bytes(flow.destination), _ip(flow).destination, flow.destination_names)

    def _number(self, text: bytes, address: str, dns_names: list[str] | None) -> int | None:
        key = (text, address, tuple(dns_names or ()))
        if key not in self._outside:
            self._outside[key] = self._read(*key)
        return self._outside[key]

    def _read(self, text: bytes, address: str, dns_names: tuple[str, ...]) -> int | None:
        try:
            told = self._decoder.decode(text)
            labels = parse_labels(told.labels)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            return None
        reserved = {label.key for label in labels if label.source == RESERVED_SOURCE}
        if not labels.items or reserved & _OUTSIDE:
            return self._at_address(address, dns_names, is_outside=bool(reserved))
        number = self._numbered(self._inside(told, labels, reserved))
        self.known[text] = number
        return number

    def _inside(self, told: _EndJson, labels: Labels, reserved: Set[str]) -> SeenEnd:
        named = self._ports.get((told.namespace, told.pod_name), ())
        end = End(labels=Labels([*labels, *named]), is_endpoint=not reserved)
        workload = told.workloads[0].name if told.workloads else told.pod_name
        name = f"{told.namespace}/{workload}" if workload else ",".join(sorted(map(str, labels)))
        return SeenEnd(end=end, name=name)

    def _at_address(
        self, address: str, dns_names: tuple[str, ...], *, is_outside: bool
    ) -> int | None:
        known = self._by_address.get(address)
        if known is not None:
            return self._numbered(known)
        if not is_outside:
            return None
        try:
            is_v6 = ip_address(address).version == 6
        except ValueError:
            return None
        names = tuple(sorted(map(canonical_name, dns_names)))
        kind = ReservedIdentity.WORLD_IPV6 if is_v6 else ReservedIdentity.WORLD_IPV4
        end = End(labels=RESERVED_LABELS[kind], address=address, is_endpoint=False, dns_names=names)
        return self._numbered(SeenEnd(end=end, name=names[0] if names else address))

    def _numbered(self, seen: SeenEnd) -> int:
        number = self._numbers.setdefault(seen, len(self.seen))
        if number == len(self.seen):
            self.seen.append(seen)
        return number


def _ip(flow: Flow) -> _Ip:
    try:
        return _ADDRESSES.decode(flow.IP)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _NO_ADDRESS


def _by_address(inventory: Inventory) -> dict[str, SeenEnd]:
    """Pods, nodes and services by their addresses."""
    found: dict[str, SeenEnd] = {}
    for pod in inventory.pods:
        end = End(labels=labels_of(inventory, pod))
        seen = SeenEnd(end=end, name=f"{pod.namespace}/{pod.name}")
        found |= dict.fromkeys(pod.addresses, seen)
    for node in inventory.nodes:
        labels = node_labels(ReservedIdentity.REMOTE_NODE, node.labels)
        seen = SeenEnd(end=End(labels=labels, is_endpoint=False), name=f"node {node.name}")
        found |= dict.fromkeys(node.addresses, seen)
    pods = [End(labels=labels_of(inventory, pod)) for pod in inventory.pods]
    for service in inventory.services:
        seen = SeenEnd(
            end=service_end(service, pods), name=f"service/{service.namespace}/{service.name}"
        )
        found |= dict.fromkeys(service.addresses, seen)
    return found


def _named_ports(inventory: Inventory) -> dict[tuple[str, str], tuple[Label, ...]]:
    """The labels that tell a pod's named ports, which flows do not bear."""
    return {
        (pod.namespace, pod.name): tuple(
            label for label in labels_of(inventory, pod) if label.source == PORT_SOURCE
        )
        for pod in inventory.pods
    }
