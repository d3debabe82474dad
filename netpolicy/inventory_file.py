"""Read the inventory file of standalone mode: nodes, namespaces, pods and services.

In:   a path and the bytes of the file
Out:  Inventory, or None and what is wrong
Pure. Both programs read it through here.

Holds always:
1. An inventory is whole or not there at all: half a file never makes pods disappear.
2. No address and no interface has two owners, no pod and no node two entries.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from ipaddress import ip_address
from typing import Final

from netpolicy.ends import NamedPort
from netpolicy.errors import Diagnostic, has_errors
from netpolicy.fields import BAD_VALUE, REPEATED, Fields, single_document
from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.positions import NodePath
from netpolicy.rules import LAST_PORT, WITH_PORTS, Protocol
from netpolicy.services import ClusterService, ServicePort
from netpolicy.yaml_reader import Limits, read_documents

INVENTORY_LIMITS: Final = Limits(size_bytes=64 << 20, depth=16, nodes=4_000_000, items=100_000)

_MAC: Final = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PROTOCOLS: Final = {protocol.name: protocol for protocol in WITH_PORTS}


def decode_inventory(path: str, data: bytes) -> tuple[Inventory | None, list[Diagnostic]]:
    """Read the file's bytes. `path` is what diagnostics call it."""
    documents, faults = read_documents(path, data, limits=INVENTORY_LIMITS)
    document = single_document(documents, faults, path)
    if document is None:
        return None, faults
    fields = Fields(document, faults)
    reader = _Reader()
    inventory = Inventory(
        cluster=fields.text("cluster", "default"),
        namespaces=dict(_namespaces(fields)),
        nodes=tuple(reader.node(record) for record in fields.records("nodes")),
        pods=tuple(reader.pod(record) for record in fields.records("pods")),
        services=tuple(reader.service(record) for record in fields.records("services")),
    )
    fields.finish()
    return (None if has_errors(faults) else inventory), faults


def _namespaces(fields: Fields) -> Iterator[tuple[str, dict[str, str]]]:
    for name, record in fields.named_records("namespaces"):
        yield name, record.text_map("labels")
        record.finish()


def _port(record: Fields) -> tuple[Protocol, int] | None:
    """The protocol and the number of a port; None if either is wrong."""
    protocol, port = record.text("protocol", "TCP"), record.number("port", 0)
    if protocol not in _PROTOCOLS:
        fix = f"write one of {', '.join(_PROTOCOLS)}"
        record.fault(("protocol",), BAD_VALUE, f'"{protocol}" has no ports', fix=fix)
    elif not 1 <= port <= LAST_PORT:
        record.fault(("port",), BAD_VALUE, f"{port} is not a port from 1 to {LAST_PORT}")
    else:
        return _PROTOCOLS[protocol], port
    return None


def _service_ports(fields: Fields) -> Iterator[ServicePort]:
    """Each port once, and where it leads: a number, or a name that pods give one of theirs."""
    taken: set[tuple[Protocol, int]] = set()
    for record in fields.records("ports"):
        found = _port(record)
        target = record.text_or_number("target")
        number = int(target) if target.isascii() and target.isdigit() else 0
        if number > LAST_PORT:
            record.fault(("target",), BAD_VALUE, f"{target} is not a port up to {LAST_PORT}")
        elif found is not None and found in taken:
            record.fault(("port",), REPEATED, f"the service has two ports {found[1]}")
        elif found is not None:
            taken.add(found)
            protocol, port = found
            if target and not number:
                yield ServicePort(protocol=protocol, port=port, target_name=target.lower())
            else:
                yield ServicePort(protocol=protocol, port=port, target=number or port)
        record.finish()


class _Reader:
    """Reads records and remembers who owns what, to report what is there twice."""

    __slots__ = ("_owners",)

    def __init__(self) -> None:
        self._owners: dict[Hashable, str] = {}

    def node(self, fields: Fields) -> Node:
        name = fields.text("name", required=True)
        self._claim(fields, ("name",), ("node", name), f"node {name}")
        node = Node(
            name=name,
            addresses=self._addresses(fields, f"node {name}"),
            labels=fields.text_map("labels"),
        )
        fields.finish()
        return node

    def pod(self, fields: Fields) -> Pod:
        namespace, name = (
            fields.text("namespace", required=True),
            fields.text("name", required=True),
        )
        self._claim(fields, ("name",), ("pod", namespace, name), f"pod {namespace}/{name}")
        pod = Pod(
            namespace=namespace,
            name=name,
            node=fields.text("node", required=True),
            addresses=self._addresses(fields, f"pod {namespace}/{name}"),
            labels=fields.text_map("labels"),
            service_account=fields.text("serviceAccount"),
            interface=self._interface(fields, f"pod {namespace}/{name}"),
            mac=self._mac(fields),
            ports=tuple(self._ports(fields)),
        )
        fields.finish()
        return pod

    def service(self, fields: Fields) -> ClusterService:
        namespace, name = (
            fields.text("namespace", required=True),
            fields.text("name", required=True),
        )
        owner = f"service {namespace}/{name}"
        self._claim(fields, ("name",), ("service", namespace, name), owner)
        service = ClusterService(
            namespace=namespace,
            name=name,
            addresses=self._addresses(fields, owner),
            labels=fields.text_map("labels"),
            selector=fields.text_map("selector"),
            ports=tuple(sorted(_service_ports(fields))),
        )
        if not service.selector:
            fields.fault((), BAD_VALUE, f"{owner} selects nobody", fix="give it a selector")
        fields.finish()
        return service

    def _ports(self, fields: Fields) -> Iterator[NamedPort]:
        """The pod's named ports; a name means one port of a protocol."""
        taken: set[tuple[str, Protocol]] = set()
        for record in fields.records("ports"):
            name = record.text("name", required=True).lower()
            found = _port(record)
            if found is not None and (name, found[0]) in taken:
                record.fault(("name",), REPEATED, f'the pod names two ports "{name}"')
            elif found is not None:
                yield NamedPort(name=name, protocol=found[0], port=found[1])
                taken.add((name, found[0]))
            record.finish()

    def _interface(self, fields: Fields, owner: str) -> str:
        interface = fields.text("interface")
        if interface:
            place = ("interface", fields.text("node"), interface)
            self._claim(fields, ("interface",), place, owner)
        return interface

    def _mac(self, fields: Fields) -> str:
        """What the pod's frames must come from; it may be left out, and is then not checked."""
        text = fields.text("mac").lower()
        if text and (not _MAC.fullmatch(text) or int(text[1], 16) & 1 or not text.strip("0:")):
            fix = "write six pairs of hexadecimal digits, in quotes, as `ip link` shows them"
            fields.fault(("mac",), BAD_VALUE, f'"{text}" is no MAC of one interface', fix=fix)
            return ""
        return text

    def _addresses(self, fields: Fields, owner: str) -> tuple[str, ...]:
        found = []
        for index, text in enumerate(fields.texts("addresses")):
            path: NodePath = ("addresses", index)
            try:
                address = str(ip_address(text))
            except ValueError:
                fields.fault(
                    path,
                    BAD_VALUE,
                    f'"{text}" is no IP address',
                    fix="write one address, without a prefix length",
                )
                continue
            self._claim(fields, path, ("address", address), owner)
            found.append(address)
        return tuple(found)

    def _claim(self, fields: Fields, path: NodePath, thing: Hashable, owner: str) -> None:
        if thing in self._owners:
            fields.fault(
                path,
                REPEATED,
                f"{owner} is listed twice"
                if self._owners[thing] == owner
                else f"{owner} has what belongs to {self._owners[thing]}",
                why="whose packets these are could not be told",
            )
        self._owners[thing] = owner
