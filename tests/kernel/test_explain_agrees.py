"""What is explained from the maps is what the kernel's own programs do, on random worlds.

The seed is printed; TIDEGATE_SEED repeats a run.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Reason
from nodeagent.explain.lookups import Question, Side, explain_flow
from nodeagent.explain.read import read_state
from nodeagent.explain.state import KernelState, SlotKind
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.room import IDENTITY_NO_ROOM
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, KernelSide, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation
from tests.support.plan_strategies import clusters, plan, policies

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

WORLDS = 40
LEAST_PAIRS = 5_000
PROBES = (*product((Protocol.TCP, Protocol.UDP), (53, 80, 443, 9999)), (Protocol.ICMP, 8))
INTERFACE = 1
SEED = int(os.environ.get("TIDEGATE_SEED", "0")) or secrets.randbits(32)


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as fresh:
        yield fresh


def state_of(engine: KernelEngine) -> KernelState:
    return read_state(engine.datapath, SlotKind.ACTIVE, with_interfaces=False)


def explained(
    state: KernelState, endpoint: LocalEndpoint, peer: str, way: Direction,
    protocol: Protocol, port: int,
) -> Side:  # fmt: skip
    own = endpoint.addresses[0]
    out = way is Direction.EGRESS
    question = Question(
        source=own if out else peer, destination=peer if out else own, protocol=protocol, port=port
    )
    return next(s for s in explain_flow(state, question).sides if s.direction is way)


def as_kernel_side(side: Side) -> KernelSide:
    """A forwarded flow's reason and cookie, and a refused one's, as the program tells them."""
    ruling = side.ruling
    return KernelSide(allowed=ruling.allowed, reason=ruling.reason, cookie=ruling.cookie)


def test_explanations_are_the_kernels_verdicts_reasons_and_cookies(engine: KernelEngine) -> None:
    seen: Counter[tuple[bool, int]] = Counter()

    @seed(SEED)
    @settings(max_examples=WORLDS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cluster=clusters, some=policies(), _world=st.uuids())
    def agree(cluster, some, _world) -> None:
        planned = plan(cluster, some)
        engine.load(planned.generation, planned.addresses, planned.endpoints)
        engine.forget_flows()
        state = state_of(engine)
        source_port = 20_000
        for endpoint, peer, way in product(planned.endpoints, cluster.addresses, Direction):
            if ":" in peer or peer in endpoint.addresses:
                continue
            behind = replace(state, endpoints={INTERFACE: _kernel_endpoint(engine, endpoint)})
            for protocol, port in PROBES:
                side = explained(behind, endpoint, peer, way, protocol, port)
                ends = (endpoint.addresses[0], peer)
                packet = packets.opening(
                    *(ends if way is Direction.EGRESS else ends[::-1]),
                    protocol, port, source_port=source_port,
                )  # fmt: skip
                source_port += 1
                found = engine.run(endpoint, way, packet)
                assert as_kernel_side(side) == found, (endpoint, peer, way, protocol, port)
                seen[found.allowed, found.reason] += 1

    print(f"seed {SEED}")
    agree()
    assert seen.total() >= LEAST_PAIRS
    assert {(True, 0), (False, Reason.POLICY_DENIED), (False, Reason.POLICY_DENY)} <= set(seen)


def _kernel_endpoint(engine: KernelEngine, endpoint: LocalEndpoint):
    engine.datapath.set_endpoint(endpoint, INTERFACE)
    return engine.datapath.read_endpoints()[INTERFACE]


@pytest.mark.parametrize(
    ("generation", "addresses", "reason"),
    [
        (small_generation(endpoint_ids=()), ADDRESSES, Reason.NO_TABLE),
        (replace(small_generation(), class_of={}), ADDRESSES, Reason.INVALID_IDENTITY),
        (
            small_generation(),
            replace(ADDRESSES, exact={**ADDRESSES.exact, "10.0.0.2": IDENTITY_NO_ROOM}),
            Reason.NO_ROOM,
        ),
    ],
    ids=["a table is missing", "a class is missing", "the address had no room"],
)
def test_what_is_missing_is_refused_for_the_kernels_reason(
    engine: KernelEngine, generation: Generation, addresses: AddressPlan, reason: Reason
) -> None:
    engine.load(generation, addresses, [WEB_ENDPOINT])
    engine.forget_flows()
    engine.datapath.set_endpoint(WEB_ENDPOINT, INTERFACE)
    side = explained(state_of(engine), WEB_ENDPOINT, "10.0.0.2", Direction.EGRESS, Protocol.TCP, 80)
    packet = packets.opening("10.0.0.1", "10.0.0.2", Protocol.TCP, 80, source_port=30_000)
    assert as_kernel_side(side) == engine.run(WEB_ENDPOINT, Direction.EGRESS, packet)
    assert side.ruling.reason == reason
    assert side.lookups[-1].found is None


def test_without_an_active_generation_nothing_passes() -> None:
    with kernel_engine() as fresh:
        fresh.datapath.set_endpoint(WEB_ENDPOINT, INTERFACE)
        side = explained(
            state_of(fresh), WEB_ENDPOINT, "10.0.0.2", Direction.EGRESS, Protocol.TCP, 80
        )
        packet = packets.opening("10.0.0.1", "10.0.0.2", Protocol.TCP, 80, source_port=30_000)
        assert as_kernel_side(side) == fresh.run(WEB_ENDPOINT, Direction.EGRESS, packet)
        assert side.ruling.reason == Reason.NOT_READY


def test_a_tracked_flow_is_shown_and_a_new_revision_has_it_judged_anew(
    engine: KernelEngine,
) -> None:
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    engine.forget_flows()
    packet = packets.opening("10.0.0.1", "192.0.2.9", Protocol.TCP, 80, source_port=30_000)
    assert engine.run(WEB_ENDPOINT, Direction.EGRESS, packet).allowed
    ask = (WEB_ENDPOINT, "192.0.2.9", Direction.EGRESS, Protocol.TCP, 80)
    (flow,) = explained(state_of(engine), *ask).flows
    assert (flow.entry.local_port, flow.judged_anew) == (30_000, False)
    engine.datapath.bump_revision()
    (flow,) = explained(state_of(engine), *ask).flows
    assert flow.judged_anew
