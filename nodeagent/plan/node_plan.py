"""Everything one node must hold, from everything it knows.

In:   PlanInputs: policies in force, this node's pods, the cluster's addresses
Out:  NodePlan: generation, addresses, endpoints, and the names behind the numbers
Pure.

Holds always:
1. Equal inputs and equal kept numbers give an equal plan, whatever it was carried on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.identity import number_identities
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import Mode, Policy
from nodeagent.l7.listeners import NO_LISTENERS, Listeners, telling
from nodeagent.plan.addresses import canonical_address, plan_addresses, wanted_labels
from nodeagent.plan.build import EVALUATED, Built, build, in_force
from nodeagent.plan.enforceable import refuse_unenforceable
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.owners import Owners, carried, owners_of
from nodeagent.plan.redirects import ProxyPorts
from nodeagent.plan.regroup import rebuild
from nodeagent.plan.room import fit


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedAddresses:
    """From which addresses a plan's were carried on, and which of them may differ."""

    before: AddressPlan
    touched: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """The desired state of the node's maps. `identities` maps each number to its labels.

    `candidate` and `preview` are what judges beside `generation`, if anything does. `carried`: the plan's
    addresses were carried on from others.
    """

    inputs: PlanInputs
    built: Built
    addresses: AddressPlan
    endpoints: tuple[LocalEndpoint, ...]
    identities: Mapping[int, Labels]
    behind: Owners
    carried: CarriedAddresses | None = field(default=None, compare=False)
    built_candidate: Built | None = None
    built_preview: Built | None = None

    @property
    def owners(self) -> Mapping[str, AddressEntry]:
        """What stands behind each address, by its canonical text: names for people."""
        return self.behind.by_address

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
    if before is None or not _asks_the_same(before.inputs, inputs):
        refuse_unenforceable((*inputs.policies, *(candidate or ())), inputs.capabilities)
    lasting = _lasting(before, inputs)
    behind, touched = lasting if lasting is not None else (owners_of(inputs), None)
    identities = _identities(inputs, behind, kept, before if lasting else None)
    numbers = {labels: number for number, labels in identities.items()}
    numbers.setdefault(RESERVED_LABELS[ReservedIdentity.HOST], int(ReservedIdentity.HOST))
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
    if before is not None and touched is not None:
        addresses = _moved(before.addresses, behind, numbers, touched)
        carried_from = CarriedAddresses(before=before.addresses, touched=touched)
    else:
        addresses, carried_from = _addresses(inputs, behind, numbers), None
    return NodePlan(
        inputs=inputs,
        built=enforced,
        addresses=addresses,
        carried=carried_from,
        endpoints=endpoints,
        identities=identities,
        behind=behind,
        built_candidate=built_candidate,
        built_preview=built_preview,
    )


def _asks_the_same(before: PlanInputs, inputs: PlanInputs) -> bool:
    """True if what an agent must be able to do is what it was."""
    was = (before.policies, before.candidate, before.capabilities)
    return was == (inputs.policies, inputs.candidate, inputs.capabilities)


def _lasting(before: NodePlan | None, inputs: PlanInputs) -> tuple[Owners, frozenset[str]] | None:
    """The owners carried on, and the addresses that changed hands: if the plan before knows the same blocks,
    and had room for every address, as this one has."""
    if before is None or before.inputs.known != inputs.known:
        return None
    found = carried(before.behind, before.inputs, inputs)
    rooms = (before.inputs.room, inputs.room)
    if found is None or any(room and len(found[0].by_address) > room.addresses for room in rooms):
        return None
    return found if len(before.addresses.exact) == len(before.owners) else None


def _identities(
    inputs: PlanInputs,
    behind: Owners,
    kept: Mapping[Labels, int] | None,
    before: NodePlan | None,
) -> Mapping[int, Labels]:
    """The labels of each number; those of the plan before, if no label set came or went."""
    if before is not None and kept and before.behind.uses.keys() == behind.uses.keys():
        return before.identities
    wanted = wanted_labels(inputs.known, behind.uses) - {inputs.node_labels}
    numbers = number_identities(wanted, kept=kept)
    identities = {number: labels for labels, number in numbers.items()}
    identities[int(ReservedIdentity.HOST)] = inputs.node_labels
    return identities


def _addresses(inputs: PlanInputs, behind: Owners, numbers: Mapping[Labels, int]) -> AddressPlan:
    """All of them anew, as far as there is room."""
    planned = plan_addresses(
        inputs.known,
        behind.by_address.values(),
        node_addresses=inputs.node_addresses,
        numbers=numbers,
    )
    return _fitted(planned, inputs)


def _moved(
    before: AddressPlan, behind: Owners, numbers: Mapping[Labels, int], touched: frozenset[str]
) -> AddressPlan:
    """The addresses carried on."""
    exact = dict(before.exact)
    for address in touched:
        owner = behind.by_address.get(address)
        if owner is None:
            del exact[address]
        else:
            exact[address] = numbers[owner.labels]
    return replace(before, exact=exact)


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
