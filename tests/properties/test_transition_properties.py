"""Between two plans the kernel passes through states; in each, packets are judged by one of the two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest
from hypothesis import example, given, settings

from netpolicy.rules import Direction, Policy, Protocol
from nodeagent.plan.generation import AddressPlan, Generation
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.model import identity_of, judge
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.plan.transition import Activate, PruneAddresses, UpsertAddresses, transition
from tests.support.plan_strategies import (
    NODE_ADDRESS,
    ONE_POD,
    SmallCluster,
    clusters,
    out_to,
    policies,
    policy,
)

pytestmark = pytest.mark.slow

PROBES = ((Protocol.TCP, 80), (Protocol.UDP, 53), (Protocol.ICMP, 8))


@dataclass(frozen=True)
class _Kernel:
    """What packets meet at one moment."""

    generation: Generation
    addresses: AddressPlan


def _plan(cluster: SmallCluster, some: tuple[Policy, ...], before: NodePlan | None) -> NodePlan:
    pods = tuple(
        LocalPod(
            endpoint_id=index + 1,
            namespace="n",
            name=address,
            labels=labels,
            addresses=(address,),
            interface=f"veth{index}",
        )
        for index, (address, labels) in enumerate(cluster.pods[: cluster.local])
    )
    inputs = PlanInputs(
        node="here",
        policies=some,
        pods=pods,
        entries=cluster.entries,
        node_addresses=(NODE_ADDRESS,),
    )
    return plan_node(inputs, kept=before.numbers if before else None)


def _answers(kernel: _Kernel, cluster: SmallCluster) -> tuple[tuple[object, object], ...]:
    found = []
    for here, peer, direction in product(range(cluster.local), cluster.addresses, Direction):
        for protocol, port in PROBES:
            judged = judge(
                kernel.generation,
                endpoint_id=here + 1,
                direction=direction,
                peer_identity=identity_of(kernel.addresses, peer),
                protocol=protocol,
                port=port,
            )
            found.append((judged.allowed, judged.outcome))
    return tuple(found)


def _states(kernel: _Kernel, steps) -> list[_Kernel]:
    """Every state on the way, the addresses changing one by one."""
    states = [kernel]
    for step in steps:
        match step:
            case Activate(generation=generation):
                states.append(replace(states[-1], generation=generation))
            case UpsertAddresses(addresses=wanted):
                for cidr, identity in wanted.prefixes.items():
                    states.append(_with_prefix(states[-1], cidr, identity))
                for address, identity in wanted.exact.items():
                    old = states[-1].addresses
                    exact = {**old.exact, address: identity}
                    states.append(replace(states[-1], addresses=replace(old, exact=exact)))
            case PruneAddresses(addresses=wanted):
                for cidr in set(states[-1].addresses.prefixes) - set(wanted.prefixes):
                    states.append(_with_prefix(states[-1], cidr, None))
                kept = {a: i for a, i in states[-1].addresses.exact.items() if a in wanted.exact}
                old = states[-1].addresses
                states.append(replace(states[-1], addresses=replace(old, exact=kept)))
    return states


def _with_prefix(kernel: _Kernel, cidr: str, identity: int | None) -> _Kernel:
    prefixes = dict(kernel.addresses.prefixes)
    if identity is None:
        del prefixes[cidr]
    else:
        prefixes[cidr] = identity
    return replace(kernel, addresses=replace(kernel.addresses, prefixes=prefixes))


@settings(max_examples=25, deadline=None)
@example(
    cluster=ONE_POD,
    old=(policy("shut", default_deny=tuple(Direction)),),
    new=(out_to("10.0.0.0/8", "10.1.0.0/16"),),
)
@example(cluster=ONE_POD, old=(out_to("10.0.0.0/8", "10.1.0.0/16"),), new=(out_to("10.0.0.0/8"),))
@given(cluster=clusters, old=policies(), new=policies())
def test_a_change_of_policies_shows_packets_the_old_or_the_new_and_nothing_between(
    cluster, old, new
):
    installed = _plan(cluster, old, None)
    desired = _plan(cluster, new, installed)
    start = _Kernel(installed.generation, installed.addresses)
    steps = transition(installed, desired, active_digest=installed.generation.digest)
    states = _states(start, steps)
    before = _answers(start, cluster)
    after = _answers(_Kernel(desired.generation, desired.addresses), cluster)
    flipped = False
    for state in states:
        answers = _answers(state, cluster)
        flipped = flipped or answers != before
        assert answers == (after if flipped else before)
    assert states[-1] == _Kernel(desired.generation, desired.addresses)


@settings(max_examples=25, deadline=None)
@given(cluster=clusters, other=clusters, some=policies())
def test_no_address_ever_loses_its_class_while_pods_come_and_go(cluster, other, some):
    installed = _plan(cluster, some, None)
    desired = _plan(other, some, installed)
    start = _Kernel(installed.generation, installed.addresses)
    steps = transition(installed, desired, active_digest=installed.generation.digest)
    for state in _states(start, steps):
        known = {*state.addresses.exact.values(), *state.addresses.prefixes.values()}
        assert known <= set(state.generation.class_of)


@settings(max_examples=25, deadline=None)
@given(cluster=clusters, some=policies())
def test_an_equal_plan_needs_no_step_and_a_restart_into_it_no_flip(cluster, some):
    plan = _plan(cluster, some, None)
    again = _plan(cluster, some, plan)
    assert transition(plan, again, active_digest=plan.generation.digest) == ()
    steps = transition(None, again, active_digest=plan.generation.digest)
    assert not any(isinstance(step, Activate) for step in steps)


@settings(max_examples=25, deadline=None)
@example(
    cluster=ONE_POD,
    old=(policy("shut", default_deny=tuple(Direction)),),
    new=(out_to("10.0.0.0/8", "10.1.0.0/16"),),
)
@given(cluster=clusters, old=policies(), new=policies())
def test_a_restart_into_another_policy_never_allows_what_neither_policy_does(cluster, old, new):
    installed = _plan(cluster, old, None)
    desired = _plan(cluster, new, None)
    start = _Kernel(installed.generation, installed.addresses)
    before = _answers(start, cluster)
    after = _answers(_Kernel(desired.generation, desired.addresses), cluster)
    allowed = [was or will for (was, _), (will, _) in zip(before, after, strict=True)]
    steps = transition(None, desired, active_digest=installed.generation.digest)
    for state in _states(start, steps):
        for (passes, _), may in zip(_answers(state, cluster), allowed, strict=True):
            assert may or not passes
