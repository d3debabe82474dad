"""What one more pod costs an agent, and what tables that endpoints share save.

In:   10³ and 10⁴ identities, 200 policies, 50 pods on the node; 50,000 addresses of 10³ label sets; 100 pods
      under one policy
Out:  milliseconds to plan anew and to carry on, and of the steps around it; bytes of map entries, shared
      and apart
Shell over the clock; what it measures is pure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Final, TypeVar

from benchmarks.report import Result
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.identity import pod_labels
from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import Labels, Selector, equals, selector
from netpolicy.rules import (
    Action,
    Direction,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
)
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.plan.build import build_generation
from nodeagent.plan.generation import Generation, LocalEndpoint
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.plan.transition import transition
from nodeagent.receive.entries import Entries
from reconciler.push.feed import Feed, FeedStream

SIZES: Final = (1_000, 10_000)
ADDRESSES: Final = 50_000
LABEL_SETS: Final = 1_000
POLICIES: Final = 200
APPS: Final = 500
LOCAL_PODS: Final = 50
PODS_OF_ONE_POLICY: Final = 100
ROUNDS: Final = 5
CARRIED_TARGET: Final = 0.5
SHARED_TARGET: Final = 0.05
_POLICY_BYTES, _ENDPOINT_BYTES = 12 + 8, 4 + 16

Made = TypeVar("Made")


def run() -> list[Result]:
    """Measure."""
    return [*_times(), *_in_a_large_cluster(), *_tables()]


def _times() -> list[Result]:
    results = []
    for size in SIZES:
        before = plan_node(_cluster(size))
        inputs = _one_more(before.inputs)
        anew = _milliseconds(lambda i=inputs, b=before: plan_node(i, kept=b.numbers))  # type: ignore[misc]
        carried = _milliseconds(lambda i=inputs, b=before: plan_node(i, kept=b.numbers, before=b))  # type: ignore[misc]
        after = plan_node(inputs, kept=before.numbers, before=before)
        steps = _milliseconds(lambda a=after, b=before: _steps(b, a))  # type: ignore[misc]
        results += [
            Result(metric=f"plan anew, {size:,} identities", value=anew, unit="ms"),
            Result(
                metric=f"plan with one pod more, {size:,} identities",
                value=carried,
                unit="ms",
                baseline=anew,
                target=CARRIED_TARGET,
            ),
            Result(metric=f"steps to that plan, {size:,} identities", value=steps, unit="ms"),
        ]
    return results


def _in_a_large_cluster() -> list[Result]:
    """From the message about one pod more, of a known kind, to the steps that the kernel is to take."""
    labels = [_labels(app=f"app-{n}", tier=f"tier-{n % 7}") for n in range(LABEL_SETS)]
    entries = tuple(_entry(_address(n), labels[n % LABEL_SETS]) for n in range(ADDRESSES))
    feed, taken = Feed(), Entries()
    stream, plan = FeedStream(feed), plan_node(replace(_cluster(LOCAL_PODS), entries=entries))
    feed.move(Change(come=entries))
    rounds = []
    for number in range(ROUNDS + 1):
        news = _last_sent(stream, taken)
        began = time.process_time()
        known = taken.take(news) or ()
        took = time.process_time()
        after = plan_node(
            replace(plan.inputs, entries=known), kept=plan.numbers, before=plan if number else None
        )
        planned = time.process_time()
        _steps(plan, after)
        rounds.append((took - began, planned - took, time.process_time() - planned))
        plan = after
        feed.move(Change(come=(_entry(f"10.99.0.{number}", labels[number]),)))
    whats = ("the message about one pod more", "the plan with it", "the steps to that plan")
    return [
        Result(metric=f"{what}, {ADDRESSES:,} addresses", value=median(some) * 1000, unit="ms")
        for what, some in zip(whats, zip(*rounds[1:], strict=True), strict=True)
    ]


def _last_sent(stream: FeedStream, taken: Entries) -> push_pb2.InventoryUpdate:
    """The message that completes a version; those before it are taken."""
    *before, last = map(push_pb2.InventoryUpdate.FromString, stream.messages())
    for message in before:
        taken.take(message)
    return last


def _entry(address: str, labels: Labels) -> AddressEntry:
    return AddressEntry(address=address, labels=labels, namespace="shop", name=address)


def _tables() -> list[Result]:
    results = []
    for ports in (1, 30):
        policies, endpoints, identities = many_pods(PODS_OF_ONE_POLICY, ports=ports)
        shared = build_generation(policies, endpoints, identities)
        alone = [build_generation(policies, [one], identities) for one in endpoints]
        entries = sum(len(generation.policy) for generation in alone)
        results += [
            Result(
                metric=f"policy entries of {PODS_OF_ONE_POLICY} pods, {ports} ports",
                value=len(shared.policy),
                unit="entries",
                baseline=entries,
                target=SHARED_TARGET,
            ),
            Result(
                metric=f"the same with the endpoints' own, {ports} ports",
                value=entry_bytes(shared),
                unit="B",
                baseline=sum(map(entry_bytes, alone)),
                target=SHARED_TARGET if ports > 1 else None,
            ),
        ]
    return results


def entry_bytes(generation: Generation) -> int:
    """Keys and values of the rules, and of the endpoints' tables."""
    rules, endpoints = len(generation.policy), len(generation.endpoint_tables)
    return rules * _POLICY_BYTES + endpoints * _ENDPOINT_BYTES


def many_pods(
    pods: int, *, ports: int
) -> tuple[tuple[Policy, ...], tuple[LocalEndpoint, ...], dict[int, Labels]]:
    """Pods of one identity, and a policy that lets clients in to some ports."""
    rules = tuple(_rule(number, "client", 8000 + number) for number in range(ports))
    web, client = _labels(app="web"), _labels(app="client")
    endpoints = tuple(
        LocalEndpoint(
            endpoint_id=number,
            identity=1001,
            interface=f"veth{number}",
            namespace="shop",
            name=f"web-{number}",
            addresses=(f"10.0.0.{number}",),
        )
        for number in range(1, pods + 1)
    )
    host = int(ReservedIdentity.HOST)
    identities = {host: RESERVED_LABELS[ReservedIdentity.HOST], 1001: web, 1002: client}
    return (_policy("web", _app("web"), rules),), endpoints, identities


def _cluster(size: int) -> PlanInputs:
    """Every pod has a label set of its own; policies look at one label of them."""
    pods = [_labels(app=f"app-{n % APPS}", tier=f"tier-{n % 7}", pod=str(n)) for n in range(size)]
    return PlanInputs(
        node="here",
        policies=tuple(
            _policy(
                f"policy-{number}",
                _app(f"app-{number}"),
                tuple(_rule(k, f"app-{(number * 3 + k) % APPS}", 80 + k) for k in range(3)),
            )
            for number in range(POLICIES)
        ),
        pods=tuple(
            LocalPod(
                endpoint_id=number + 1,
                namespace="shop",
                name=f"pod-{number}",
                labels=pods[number],
                addresses=(_address(number),),
                interface=f"veth{number}",
            )
            for number in range(LOCAL_PODS)
        ),
        entries=tuple(
            AddressEntry(address=_address(n), labels=own, namespace="shop", name=f"pod-{n}")
            for n, own in enumerate(pods)
        ),
        node_addresses=("192.0.2.1",),
    )


def _one_more(inputs: PlanInputs) -> PlanInputs:
    labels = _labels(app="app-3", tier="tier-3", pod="new")
    new = AddressEntry(address="10.99.0.1", labels=labels, namespace="shop", name="new")
    return replace(inputs, entries=(*inputs.entries, new))


def _steps(before: NodePlan, after: NodePlan) -> object:
    return transition(before, after, active_digest=before.generation.digest)


def _labels(**labels: str) -> Labels:
    return pod_labels(cluster="default", namespace="shop", labels=labels, namespace_labels={})


def _app(name: str) -> Selector:
    return selector([equals("app", name)])


def _rule(number: int, client: str, port: int) -> Rule:
    return Rule(
        direction=Direction.INGRESS,
        action=Action.ALLOW,
        origin=f"ingress[{number}]",
        peers=Peers(selectors=(_app(client),)),
        ports=(Ports(protocol=Protocol.TCP, first=port, last=port),),
    )


def _policy(name: str, subject: Selector, rules: tuple[Rule, ...]) -> Policy:
    return Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace="shop", name=name),
        subject=subject,
        default_deny=(Direction.INGRESS,),
        rules=rules,
    )


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _milliseconds(work: Callable[[], Made]) -> float:
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return median(taken)
