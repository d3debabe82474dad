"""What the kernel counts of a shadow is what evaluator and map model say of the two policies, and what
it does with each packet is what they say of the enforced one.

The seed is printed; TIDEGATE_SEED repeats a run.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from netpolicy.evaluate import Flow, Outcome, Side, evaluate
from netpolicy.evidence import Cause, Shadow
from netpolicy.rules import Direction, Policy, Protocol
from nodeagent.datapath import GenerationLabel, KernelDifference
from nodeagent.plan.build import build_generation
from nodeagent.plan.difference import difference
from nodeagent.plan.generation import Attribution, Generation, LocalEndpoint
from nodeagent.plan.model import Judgement, identity_of, judge
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import TEST_INTERFACE, KernelEngine, kernel_engine
from tests.support.plan_strategies import Planned, SmallCluster, clusters, plan, policies

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

WORLDS = 10
LEAST_DIFFERENCES = 50
SHOT = 2
PROBES = (
    *product((Protocol.TCP, Protocol.UDP), (0, 53, 80, 443, 65535)),
    *product((Protocol.ICMP,), (0, 8, 255)),
)
UNSELECTED = Attribution(Outcome.UNSELECTED, ())
SEED = int(os.environ.get("TIDEGATE_SEED", "0")) or secrets.randbits(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One packet, seen by one local pod."""

    endpoint: LocalEndpoint
    peer: str
    direction: Direction
    protocol: Protocol
    port: int

    @property
    def ends(self) -> tuple[str, str]:
        """Source and destination."""
        own = self.endpoint.addresses[0]
        return (own, self.peer) if self.direction is Direction.EGRESS else (self.peer, own)


@dataclass(frozen=True, slots=True)
class Told:
    """A difference, its cookie resolved."""

    source_identity: int
    destination_identity: int
    protocol: int
    port: int
    direction: Direction
    cause: Cause
    because: Attribution | None


def questions(planned: Planned, cluster: SmallCluster) -> Iterator[Question]:
    everyone = product(planned.endpoints, cluster.addresses, Direction, PROBES)
    for endpoint, peer, direction, (protocol, port) in everyone:
        if ":" not in peer and peer not in endpoint.addresses:
            yield Question(
                endpoint=endpoint, peer=peer, direction=direction, protocol=protocol, port=port
            )


def by_the_evaluator(cluster: SmallCluster, some: tuple[Policy, ...], asked: Question) -> bool:
    source, destination = (cluster.end(address) for address in asked.ends)
    flow = Flow(source=source, destination=destination, protocol=asked.protocol, port=asked.port)
    decision = evaluate(some, flow)
    side: Side = decision.egress if asked.direction is Direction.EGRESS else decision.ingress
    return side.passes


def by_the_model(generation: Generation, planned: Planned, asked: Question) -> Judgement:
    return judge(
        generation,
        endpoint_id=asked.endpoint.endpoint_id,
        direction=asked.direction,
        peer_identity=identity_of(planned.addresses, asked.peer),
        protocol=asked.protocol,
        port=asked.port,
    )


def told_by_the_model(
    enforced: Judgement, shadowed: Judgement, planned: Planned, asked: Question
) -> Told | None:
    cause = difference(enforced, shadowed)
    if cause is None:
        return None
    peer = identity_of(planned.addresses, asked.peer)
    assert peer is not None
    own = asked.endpoint.identity
    outwards = asked.direction is Direction.EGRESS
    return Told(
        own if outwards else peer,
        peer if outwards else own,
        asked.protocol,
        asked.port,
        asked.direction,
        cause,
        shadowed.because,
    )


def told_by_the_kernel(found: KernelDifference, candidate: Generation) -> Told:
    return Told(
        found.source_identity,
        found.destination_identity,
        found.protocol,
        found.port,
        found.direction,
        found.cause,
        candidate.attributions[found.cookie] if found.cookie else UNSELECTED,
    )


def passes_the_kernel(engine: KernelEngine, asked: Question, source_port: int) -> bool:
    engine.datapath.set_endpoint(asked.endpoint, TEST_INTERFACE)
    packet = packets.opening(*asked.ends, asked.protocol, asked.port, source_port=source_port)
    return engine.datapath.run_program(asked.direction, packet)[0] != SHOT


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as fresh:
        yield fresh


def differences_agree(
    engine: KernelEngine,
    cluster: SmallCluster,
    stable: tuple[Policy, ...],
    changed: tuple[Policy, ...],
) -> Counter[Cause]:
    """Hold the kernel's counts to the model's on every flow; return how often each cause was told."""
    causes = Counter[Cause]()
    planned = plan(cluster, (*stable, *changed))
    enforced, candidate = (
        build_generation(some, planned.endpoints, planned.identities, admit_local_host=True)
        for some in (stable, changed)
    )
    set_up(engine, planned, enforced, candidate)
    expected: Counter[Told] = Counter()
    judged: Counter[int] = Counter()
    for number, asked in enumerate(questions(planned, cluster)):
        passed = passes_the_kernel(engine, asked, 20_000 + number)
        before = by_the_model(enforced, planned, asked)
        after = by_the_model(candidate, planned, asked)
        assert passed == before.allowed == by_the_evaluator(cluster, stable, asked)
        assert after.allowed == by_the_evaluator(cluster, changed, asked)
        judged[asked.endpoint.endpoint_id] += 1
        if told := told_by_the_model(before, after, planned, asked):
            expected[told] += 1
            causes[told.cause] += 1
    counted = Counter[Told]()
    for found in engine.datapath.read_differences(Shadow.CANDIDATE):
        counted[told_by_the_kernel(found, candidate)] += found.count
    assert counted == expected
    assert engine.datapath.read_coverage(Shadow.CANDIDATE) == judged
    return causes


def test_the_counted_differences_are_those_of_evaluator_and_model(engine: KernelEngine) -> None:
    causes: Counter[Cause] = Counter()

    @seed(SEED)
    @settings(
        max_examples=WORLDS,
        phases=[Phase.generate],
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(cluster=clusters, stable=policies(), changed=policies(), _world=st.uuids())
    def agree(
        cluster: SmallCluster,
        stable: tuple[Policy, ...],
        changed: tuple[Policy, ...],
        _world: object,
    ) -> None:
        # Each against the other: what one would deny, the other would allow.
        for before, after in ((stable, changed), (changed, stable)):
            causes.update(differences_agree(engine, cluster, before, after))

    print(f"seed {SEED}")
    agree()
    print(causes)
    assert min(causes[Cause.WOULD_DENY], causes[Cause.WOULD_ALLOW]) >= LEAST_DIFFERENCES


def set_up(
    engine: KernelEngine, planned: Planned, enforced: Generation, candidate: Generation
) -> None:
    """Enforce the one, and have nothing counted of the other yet."""
    engine.datapath.set_shadows(candidate=None, preview=None)
    engine.load(enforced, planned.addresses, planned.endpoints)
    engine.forget_flows()
    label = GenerationLabel(
        generation_digest=candidate.digest, bundle_digest=candidate.digest, sequence=1
    )
    slot = engine.datapath.fill(candidate, label=label)
    engine.datapath.set_shadows(candidate=slot, preview=None)
