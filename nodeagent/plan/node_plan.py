"""Everything one node must hold, from everything it knows.

In:   PlanInputs: policies in force, this node's pods, the cluster's addresses
Out:  NodePlan: generation, addresses, endpoints, and the names behind the numbers
Pure.

Holds always:
1. What the node sees of its own pods stands over what the cluster's feed says of them.
2. Equal inputs and equal kept numbers give an equal plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from netpolicy.capabilities import Capability
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.identity import number_identities
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import Mode, Policy
from nodeagent.l7.listeners import (
    DEFAULT_PORTS,
    NO_LISTENERS,
    Listeners,
    PortRange,
    telling,
)
from nodeagent.plan.addresses import canonical_address, plan_addresses, wanted_labels
from nodeagent.plan.build import ENFORCED, EVALUATED, Built, build, in_force
from nodeagent.plan.enforceable import CAPABILITIES, refuse_unenforceable
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.redirects import ProxyPorts
from nodeagent.plan.regroup import rebuild
from nodeagent.plan.room import AddressRoom, fit


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPod:
    """A pod on this node before its labels have a number. See `LocalEndpoint` for the fields."""

    endpoint_id: int
    namespace: str
    name: str
    labels: Labels
    addresses: tuple[str, ...]
    interface: str
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """What the plan is made from. `entries` are the whole cluster's, this node's included.

    Of `policies` those of `modes` are enforced; with `has_preview`, all of them are evaluated beside.
    `candidate`: policies to be evaluated as if they were the enforced ones; with `candidate_is_former`,
    those that were enforced before these. `remembered`: policies of generations that may come into force
    again by a flip, so that every address keeps its identity.
    `node_labels` are the local host's: the reserved label, and the node's own. `room`: what the address
    maps hold; None for no limit. `capabilities`: what this agent enforces; with a proxy, on `proxy_ports`.
    """

    node: str
    policies: tuple[Policy, ...] = ()
    modes: frozenset[Mode] = ENFORCED
    has_preview: bool = False
    candidate: tuple[Policy, ...] | None = None
    candidate_is_former: bool = False
    remembered: tuple[Policy, ...] = ()
    pods: tuple[LocalPod, ...] = ()
    entries: tuple[AddressEntry, ...] = ()
    node_addresses: tuple[str, ...] = ()
    node_labels: Labels = RESERVED_LABELS[ReservedIdentity.HOST]
    admit_local_host: bool = True
    room: AddressRoom | None = None
    capabilities: frozenset[Capability] = CAPABILITIES
    proxy_ports: PortRange = DEFAULT_PORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """The desired state of the node's maps. `identities` maps each number to its labels.

    `candidate` and `preview` are what judges beside `generation`, if anything does. `owners` says
    what stands behind each address, by its canonical text: names for people.
    """

    inputs: PlanInputs
    built: Built
    addresses: AddressPlan
    endpoints: tuple[LocalEndpoint, ...]
    identities: Mapping[int, Labels]
    owners: Mapping[str, AddressEntry] = field(default_factory=dict)
    built_candidate: Built | None = None
    built_preview: Built | None = None

    @property
    def generation(self) -> Generation:
        """What is enforced."""
        return self.built.generation

    @property
    def candidate(self) -> Generation | None:
        """What a rollout would enforce."""
        return self.built_candidate.generation if self.built_candidate else None

    @property
    def preview(self) -> Generation | None:
        """What every policy together would enforce."""
        return self.built_preview.generation if self.built_preview else None

    @property
    def listeners(self) -> Listeners:
        """What the proxy must serve for what is enforced, and tell for what is judged beside."""
        beside = (self.built_candidate, self.built_preview)
        return telling(self.built.listeners, [one.listeners for one in beside if one])

    @property
    def numbers(self) -> dict[Labels, int]:
        """The number of each label set: what the next plan keeps."""
        return {labels: number for number, labels in self.identities.items()}


def plan_node(
    inputs: PlanInputs,
    *,
    kept: Mapping[Labels, int] | None = None,
    before: NodePlan | None = None,
    standing: Listeners = NO_LISTENERS,
) -> NodePlan:
    """Plan the node. `kept` are the numbers of the plan before, so that they stay.

    `before` is a plan to carry on from: it changes how long this takes, and keeps the proxy's ports; else
    those of `standing` are kept.
    Raises RejectedBundle for policies that this agent cannot enforce, StalledError for too many.
    """
    candidate = inputs.candidate
    refuse_unenforceable((*inputs.policies, *(candidate or ())), inputs.capabilities)
    known = (*inputs.policies, *(candidate or ()), *inputs.remembered)
    owners = _owners(inputs)
    entries = tuple(owners.values())
    wanted = wanted_labels(known, entries) - {inputs.node_labels}
    numbers = number_identities(wanted, kept=kept)
    numbers[inputs.node_labels] = int(ReservedIdentity.HOST)
    identities = {number: labels for labels, number in numbers.items()}
    identities[int(ReservedIdentity.HOST)] = inputs.node_labels
    endpoints = tuple(
        _endpoint(pod, numbers) for pod in sorted(inputs.pods, key=lambda p: p.endpoint_id)
    )
    built = partial(
        _built, inputs=inputs, endpoints=endpoints, identities=identities, before=before
    )
    enforced = built(
        inputs.policies,
        inputs.modes,
        standing=before.built.listeners if before else standing,
        held=_ports_beside(before),
    )
    built_candidate = built_preview = None
    if candidate is not None:
        built_candidate = built(candidate, inputs.modes, standing=enforced.listeners)
    if inputs.has_preview:
        held = built_candidate.listeners.ports if built_candidate else frozenset()
        built_preview = built(inputs.policies, EVALUATED, standing=enforced.listeners, held=held)
    return NodePlan(
        inputs=inputs,
        built=enforced,
        addresses=_fitted(
            plan_addresses(known, entries, node_addresses=inputs.node_addresses, numbers=numbers),
            inputs,
        ),
        endpoints=endpoints,
        identities=identities,
        owners=owners,
        built_candidate=built_candidate,
        built_preview=built_preview,
    )


def _ports_beside(plan: NodePlan | None) -> frozenset[int]:
    """The ports that only a generation beside the enforced one has."""
    if plan is None:
        return frozenset()
    beside = (plan.built_candidate, plan.built_preview)
    ports = frozenset(port for one in beside if one for port in one.listeners.ports)
    return ports - plan.built.listeners.ports


def _fitted(addresses: AddressPlan, inputs: PlanInputs) -> AddressPlan:
    """What the maps have room for: this node's own before others'."""
    if inputs.room is None:
        return addresses
    own = (*inputs.node_addresses, *(a for pod in inputs.pods for a in pod.addresses))
    return fit(addresses, inputs.room, first=frozenset(map(canonical_address, own)))


def _built(
    policies: tuple[Policy, ...],
    modes: frozenset[Mode],
    *,
    inputs: PlanInputs,
    endpoints: tuple[LocalEndpoint, ...],
    identities: Mapping[int, Labels],
    before: NodePlan | None,
    standing: Listeners,
    held: frozenset[int] = frozenset(),
) -> Built:
    """Carried on from a generation of the same policies, if the plan before has one."""
    enforced = in_force(policies, modes)
    proxy = ProxyPorts(standing=standing, ports=inputs.proxy_ports, held=held)
    if before is not None:
        for one in (before.built, before.built_candidate, before.built_preview):
            if one is not None and one.stands_for(enforced, inputs.admit_local_host):
                return rebuild(one, endpoints, identities, proxy=proxy)
    return build(
        enforced, endpoints, identities, admit_local_host=inputs.admit_local_host, proxy=proxy
    )


def _owners(inputs: PlanInputs) -> dict[str, AddressEntry]:
    """One entry an address: the feed's, then this node's pods over it, then the node itself."""
    owners = {canonical_address(entry.address): entry for entry in inputs.entries}
    for pod in inputs.pods:
        for address in map(canonical_address, pod.addresses):
            owners[address] = AddressEntry(
                address=address,
                labels=pod.labels,
                namespace=pod.namespace,
                name=pod.name,
                node=inputs.node,
            )
    for address in map(canonical_address, inputs.node_addresses):
        owners[address] = AddressEntry(
            address=address,
            labels=inputs.node_labels,
            name=inputs.node,
            node=inputs.node,
        )
    return dict(sorted(owners.items()))


def _endpoint(pod: LocalPod, numbers: Mapping[Labels, int]) -> LocalEndpoint:
    return LocalEndpoint(
        endpoint_id=pod.endpoint_id,
        identity=numbers[pod.labels],
        interface=pod.interface,
        namespace=pod.namespace,
        name=pod.name,
        addresses=tuple(map(canonical_address, pod.addresses)),
        mac=pod.mac,
    )
