"""Cases: policies and what becomes of probes, as data, for every engine that judges packets.

A file is a list of cases: `why`, `pods`, `policies`, `probes`, and where needed `namespaces` (their
labels) and `host_admitted` (false turns the local host's standing leave off). Policies are whole objects, or
in short {name, namespace, …fields of spec}, by default a CiliumNetworkPolicy that selects every pod.
`field: name.yaml` takes the policies from a file of tests/cases/field instead, as it stands.
A pod has `namespace`, `labels`, `account`, and `ports` by name ({web: tcp/80}). `names` are the DNS names
of addresses of the world; `services` are {name: {namespace, labels, selector, ports: {tcp/80: 8080}}}, where
a port may lead to one by name, and each has an address of its own that probes go `to` by its name.

Probes are in `tests.support.case_probes`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from netpolicy.capabilities import Capability, needed
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.errors import has_errors, render
from netpolicy.evaluate import Decision, End, Flow, NamedPort, Service, evaluate
from netpolicy.identity import number_identities, pod_labels
from netpolicy.inventory import AddressEntry, service_entries
from netpolicy.l7 import request_passes, server_name_passes
from netpolicy.labels import Labels
from netpolicy.rules import Direction, Policy
from netpolicy.services import ClusterService, ServicePort, service_end
from nodeagent.l7.listeners import DEFAULT_PORTS, Listeners, PortRange
from nodeagent.plan.addresses import plan_addresses, wanted_labels
from nodeagent.plan.build import ENFORCED, build, in_force
from nodeagent.plan.enforceable import CAPABILITIES
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.redirects import ProxyPorts
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.validate import validate
from tests.support.case_probes import Probe, protocol_and_port, read_probe

CASES = Path(__file__).parents[1] / "cases"
NODES = {
    "host": ("192.0.2.1", "2001:db8:ffff::1"),
    "remote-node": ("192.0.2.2", "2001:db8:ffff::2"),
}
PLANNED = CAPABILITIES | {Capability.HTTP, Capability.RATE_LIMITS, Capability.SERVER_NAMES}
"""What cases may ask for that the maps, the kernel and a proxy judge, too."""
NODE_IDENTITIES = {"host": ReservedIdentity.HOST, "remote-node": ReservedIdentity.REMOTE_NODE}
_CASE_FIELDS = {
    "why", "pods", "namespaces", "policies", "field", "probes", "host_admitted", "names", "services",
}  # fmt: skip


@dataclass(frozen=True)
class CasePod:
    """A pod of a case, with an address of each family."""

    name: str
    labels: Labels
    namespace: str
    addresses: tuple[str, str]
    services: tuple[Service, ...] = ()


class Case:
    """One case of a file of tests/cases."""

    def __init__(self, path: Path, number: int, data: dict[str, Any]) -> None:
        unknown = set(data) - _CASE_FIELDS
        if unknown or not data.get("why") or not data.get("probes"):
            raise ValueError(f"{path.name}, case {number}: not a case: {unknown or 'incomplete'}")
        self.why: str = data["why"]
        self.name = f"{path.stem}: {self.why}"
        self.host_admitted: bool = data.get("host_admitted", True)
        self.services = _services(data)
        self.pods = _pods(data, self.services)
        self._names: dict[str, list[str]] = data.get("names", {})
        self.probes = tuple(map(read_probe, data["probes"]))
        self._data = data

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """The case's policies, through the reader, the validation and the compiler."""
        reading = read_policies(self._files())
        found = [*reading.diagnostics, *validate(reading.objects)]
        if has_errors(found):
            raise ValueError("\n".join(map(render, found)))
        units = compile_policies(reading.objects)
        return tuple(policy for unit in units for policy in unit.policies)

    def _files(self) -> list[SourceFile]:
        fields = self._data.get("field", [])
        files = [
            (f"policies/{name}", (CASES / "field" / name).read_bytes())
            for name in ([fields] if isinstance(fields, str) else fields)
        ]
        for number, policy in enumerate(self._data.get("policies", [])):
            files.append((f"policies/{number}.yaml", json.dumps(_whole(policy)).encode()))
        return [SourceFile(path=path, blob_id=path, data=data) for path, data in files]

    def addresses_of(self, probe: Probe) -> tuple[str, str]:
        """The addresses a probe goes from and to."""
        return self._address(probe.source, probe.family), self._address(
            probe.destination, probe.family
        )

    def _address(self, name: str, family: int) -> str:
        for pod in self.pods:
            if pod.name == name:
                return pod.addresses[family == 6]
        for service in self.services:
            if service.name == name:
                return service.addresses[family == 6]
        return NODES[name][family == 6] if name in NODES else name

    def evaluated(self, probe: Probe) -> Decision:
        """What the reference evaluator says."""
        return evaluate(self.policies, self.flow(probe), admit_local_host=self.host_admitted)

    def flow(self, probe: Probe) -> Flow:
        """The probe as the evaluator sees it."""
        source, destination = self.addresses_of(probe)
        return Flow(
            source=self._end(source),
            destination=self._end(destination),
            protocol=probe.protocol,
            port=probe.port,
            request=probe.request,
            server_name=probe.server_name,
        )

    def _end(self, address: str) -> End:
        for service in self.services:
            if address in service.addresses:
                return service_end(service, (self._end(pod.addresses[0]) for pod in self.pods))
        for pod in self.pods:
            if address in pod.addresses:
                return End(
                    labels=pod.labels,
                    address=address,
                    services=pod.services,
                )
        for name, addresses in NODES.items():
            if address in addresses:
                labels = RESERVED_LABELS[NODE_IDENTITIES[name]]
                return End(labels=labels, address=address, is_endpoint=False)
        world = ReservedIdentity.WORLD_IPV6 if ":" in address else ReservedIdentity.WORLD_IPV4
        return End(
            labels=RESERVED_LABELS[world],
            address=address,
            is_endpoint=False,
            dns_names=tuple(self._names.get(address, ())),
        )

    @property
    def is_planned(self) -> bool:
        """True if every engine judges what the case's policies ask for."""
        return set(needed(self.policies)) <= PLANNED

    @cached_property
    def planned(self) -> PlannedCase:
        """The maps of one node that runs all the pods."""
        return self.plan()

    def plan(self, ports: PortRange = DEFAULT_PORTS) -> PlannedCase:
        """The same, with listeners on ports of this range."""
        entries = [
            AddressEntry(address=address, labels=pod.labels, namespace=pod.namespace, name=pod.name)
            for pod in self.pods
            for address in pod.addresses
        ]
        entries += [
            AddressEntry(address=address, labels=RESERVED_LABELS[ReservedIdentity.REMOTE_NODE])
            for address in NODES["remote-node"]
        ]
        entries += [entry for service in self.services for entry in service_entries(service)]
        numbers = number_identities(
            wanted_labels(self.policies, (entry.labels for entry in entries))
        )
        endpoints = tuple(
            LocalEndpoint(
                endpoint_id=index + 1,
                identity=numbers[pod.labels],
                interface=f"case{index}",
                namespace=pod.namespace,
                name=pod.name,
                addresses=pod.addresses,
            )
            for index, pod in enumerate(self.pods)
        )
        built = build(
            in_force(self.policies, ENFORCED),
            endpoints,
            {number: labels for labels, number in numbers.items()},
            admit_local_host=self.host_admitted,
            proxy=ProxyPorts(ports=ports),
        )
        return PlannedCase(
            generation=built.generation,
            listeners=built.listeners,
            addresses=plan_addresses(
                self.policies, entries, node_addresses=NODES["host"], numbers=numbers
            ),
            endpoints=endpoints,
        )


@dataclass(frozen=True)
class PlannedCase:
    """What the agent would write to the kernel for a case, and what it would have the proxy serve."""

    generation: Generation
    listeners: Listeners
    addresses: AddressPlan
    endpoints: tuple[LocalEndpoint, ...]

    def endpoint_at(self, address: str) -> LocalEndpoint | None:
        """The pod with this address."""
        return next((e for e in self.endpoints if address in e.addresses), None)

    def proxy_passes(self, port: int, direction: Direction, probe: Probe) -> bool:
        """What the rule set says that is served on a port, by the reference."""
        (rule_set,) = (
            one.rule_set
            for one in self.listeners.listeners
            if (one.port, one.direction) == (port, direction)
        )
        if rule_set.allows_everything:
            return True
        named = [
            rule
            for rule in rule_set.rules
            if rule.server_names is None
            or probe.server_name is None
            or server_name_passes(rule.server_names, probe.server_name)
        ]
        asked = [rule.l7 for rule in named if rule.l7 is not None]
        return bool(named) if probe.request is None else request_passes(asked, probe.request)


def load_cases() -> list[Case]:
    """Every case, file by file."""
    return [
        Case(path, number, data)
        for path in sorted(CASES.glob("*.yaml"))
        for number, data in enumerate(yaml.safe_load(path.read_text()))
    ]


def load_planned_cases() -> list[Case]:
    """The cases that the map model and the kernel can judge as well."""
    return [case for case in load_cases() if case.is_planned]


def _pods(data: dict[str, Any], services: tuple[ClusterService, ...]) -> tuple[CasePod, ...]:
    namespaces = data.get("namespaces", {})
    found = []
    for index, (name, pod) in enumerate(data["pods"].items()):
        labels = pod_labels(
            cluster="default",
            namespace=pod["namespace"],
            labels=pod.get("labels", {}),
            namespace_labels=namespaces.get(pod["namespace"], {}),
            service_account=pod.get("account", ""),
            ports=(
                NamedPort(name=port, protocol=protocol, port=number)
                for port, text in pod.get("ports", {}).items()
                for protocol, number in [protocol_and_port(text)]
            ),
        )
        found.append(
            CasePod(
                name=name,
                labels=labels,
                namespace=pod["namespace"],
                addresses=(f"10.0.0.{index + 10}", f"fd00::{index + 10:x}"),
                services=tuple(s.named for s in services if s.pods and s.pods.matches(labels)),
            )
        )
    return tuple(found)


def _services(data: dict[str, Any]) -> tuple[ClusterService, ...]:
    return tuple(
        ClusterService(
            namespace=service["namespace"],
            name=name,
            addresses=(f"10.96.0.{index + 10}", f"fd96::{index + 10:x}"),
            labels=service.get("labels", {}),
            selector=service["selector"],
            ports=tuple(_service_port(*pair) for pair in service.get("ports", {}).items()),
        )
        for index, (name, service) in enumerate(data.get("services", {}).items())
    )


def _service_port(text: str, target: int | str) -> ServicePort:
    protocol, port = protocol_and_port(text)
    if isinstance(target, str):
        return ServicePort(protocol=protocol, port=port, target_name=target)
    return ServicePort(protocol=protocol, port=port, target=target)


def _whole(policy: dict[str, Any]) -> dict[str, Any]:
    """A policy in short, written out."""
    if "metadata" in policy:
        return policy
    kind = policy.get("kind", "CiliumNetworkPolicy")
    is_kubernetes = kind == "NetworkPolicy"
    metadata = {k: policy[k] for k in ("name", "namespace", "annotations") if k in policy}
    spec = {k: v for k, v in policy.items() if k not in {"kind", *metadata}}
    spec.setdefault("podSelector" if is_kubernetes else "endpointSelector", {})
    version = "networking.k8s.io/v1" if is_kubernetes else "cilium.io/v2"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
