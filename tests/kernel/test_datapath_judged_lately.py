"""What was allowed is allowed again unasked: to the same question, and for no longer than a tick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Reason
from nodeagent.plan.generation import PolicyEntry, Verdict
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    OUT_COOKIE,
    PEER,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    without_rules,
)

pytestmark = pytest.mark.kernel

WEB, FAR, STRANGER = "10.0.0.1", "192.0.2.1", "10.0.0.3"
LONGER_THAN_A_TICK = 0.05
KNOWING_THE_STRANGER = replace(ADDRESSES, exact={**ADDRESSES.exact, STRANGER: PEER})


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


def test_who_becomes_known_is_let_in_at_once_and_who_goes_is_refused_by_the_next_tick(
    engine: KernelEngine,
) -> None:
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    for _ in range(10):
        assert not engine.judge(STRANGER, WEB, Protocol.TCP, 8080).allowed
        engine.datapath.upsert_addresses(KNOWING_THE_STRANGER)
        assert engine.judge(STRANGER, WEB, Protocol.TCP, 8080).allowed
        engine.datapath.prune_addresses(ADDRESSES)
        time.sleep(LONGER_THAN_A_TICK)


def test_another_revision_is_asked_anew(engine: KernelEngine) -> None:
    for _ in range(5):
        engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
        assert engine.judge(WEB, FAR, Protocol.TCP, 80).allowed
        engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
        assert not engine.judge(WEB, FAR, Protocol.TCP, 80).allowed


def test_questions_that_share_a_place_in_memory_are_told_apart(engine: KernelEngine) -> None:
    """Of 2,000 ports every other is allowed, and a processor remembers 256 answers."""
    ports = range(1_000, 3_000)
    rules = {
        (Direction.EGRESS, WORLD_CLASS, Protocol.TCP, port): PolicyEntry(Verdict.ALLOW, OUT_COOKIE)
        for port in ports
        if port % 2
    }
    engine.load(small_generation(rules), ADDRESSES, [WEB_ENDPOINT])
    engine.datapath.set_endpoint(WEB_ENDPOINT, 1)
    for port in ports:
        for protocol in (Protocol.TCP, Protocol.UDP):
            opening = packets.opening(WEB, FAR, protocol, port, source_port=40_000)
            result, _ = engine.datapath.run_program(Direction.EGRESS, opening)
            assert (result == -1) == (protocol is Protocol.TCP and port % 2 == 1), (protocol, port)


def test_one_endpoints_answer_is_not_anothers(engine: KernelEngine) -> None:
    other = replace(WEB_ENDPOINT, endpoint_id=8, name="other")
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    opening = packets.opening(WEB, FAR, Protocol.TCP, 80, source_port=40_000)
    for _ in range(20):
        assert engine.run(WEB_ENDPOINT, Direction.EGRESS, opening).allowed
        assert engine.run(other, Direction.EGRESS, opening).reason == Reason.NO_TABLE
