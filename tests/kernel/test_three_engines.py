"""Evaluator, map model and kernel agree on random worlds: at least 10⁵ (policy, packet) pairs a run.

The seed is printed; TIDEGATE_SEED repeats a run, and Hypothesis shrinks what disagrees.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from netpolicy.evaluate import End, Flow, Side, evaluate
from netpolicy.rules import Direction, Policy, Protocol
from nodeagent.plan.generation import LocalEndpoint
from nodeagent.plan.model import identity_of, judge
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.plan_strategies import Planned, SmallCluster, clusters, plan, policies

WORLDS = 160
LEAST_PAIRS = 100_000
PORTS = (0, 8, 53, 79, 80, 443, 8080, 65535)
PROBES = (
    *product((Protocol.TCP, Protocol.UDP), PORTS),
    *product((Protocol.ICMP,), (0, 8, 53, 255)),
)
SEED = int(os.environ.get("TIDEGATE_SEED", "0")) or secrets.randbits(32)


@dataclass
class Tally:
    """How many pairs were judged, and how many of them let the packet pass."""

    pairs: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One packet, seen by one local pod."""

    endpoint: LocalEndpoint
    peer: str
    direction: Direction
    protocol: Protocol
    port: int
    source_port: int = field(default=0, compare=False)

    @property
    def ends(self) -> tuple[str, str]:
        """Source and destination."""
        own = self.endpoint.addresses[0]
        return (own, self.peer) if self.direction is Direction.EGRESS else (self.peer, own)


def questions(planned: Planned, cluster: SmallCluster) -> Iterator[Question]:
    """Every local pod, every peer of its family, both directions, every probe."""
    everyone = product(planned.endpoints, cluster.addresses, Direction, PROBES)
    for number, (endpoint, peer, direction, (protocol, port)) in enumerate(everyone):
        if ":" in peer or peer in endpoint.addresses:
            continue
        yield Question(
            endpoint=endpoint,
            peer=peer,
            direction=direction,
            protocol=protocol,
            port=port,
            source_port=20_000 + number % 40_000,
        )


def by_the_evaluator(ends: Mapping[str, End], some: tuple[Policy, ...], asked: Question) -> Side:
    source, destination = (ends[address] for address in asked.ends)
    flow = Flow(source=source, destination=destination, protocol=asked.protocol, port=asked.port)
    decision = evaluate(some, flow)
    return decision.egress if asked.direction is Direction.EGRESS else decision.ingress


def by_the_model(planned: Planned, asked: Question) -> bool:
    return judge(
        planned.generation,
        endpoint_id=asked.endpoint.endpoint_id,
        direction=asked.direction,
        peer_identity=identity_of(planned.addresses, asked.peer),
        protocol=asked.protocol,
        port=asked.port,
    ).allowed


def by_the_kernel(engine: KernelEngine, asked: Question) -> bool:
    packet = packets.opening(*asked.ends, asked.protocol, asked.port, source_port=asked.source_port)
    return engine.allows(asked.endpoint, asked.direction, packet)


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as fresh:
        yield fresh


@pytest.mark.kernel
@pytest.mark.slow
def test_the_three_engines_agree_on_random_worlds(engine: KernelEngine) -> None:
    tally = Tally()

    @seed(SEED)
    @settings(
        max_examples=WORLDS,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(cluster=clusters, some=policies(), _world=st.uuids())
    def agree(cluster: SmallCluster, some: tuple[Policy, ...], _world: object) -> None:
        planned = plan(cluster, some)
        engine.load(planned.generation, planned.addresses, planned.endpoints)
        engine.forget_flows()
        ends = {address: cluster.end(address) for address in cluster.addresses}
        for asked in questions(planned, cluster):
            expected = by_the_evaluator(ends, some, asked).passes
            found = (by_the_model(planned, asked), by_the_kernel(engine, asked))
            assert found == (expected, expected), asked
            tally.pairs += 1
            tally.passed += expected

    print(f"seed {SEED}")
    agree()
    print(f"{tally.pairs} pairs, {tally.passed} of them pass")
    assert tally.pairs >= LEAST_PAIRS
    assert 0.02 < tally.passed / tally.pairs < 0.98
