"""What rules say of packets, by the real programs.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import DatapathError, GenerationLabel, Reason
from nodeagent.plan.generation import PolicyEntry, TableFlag, Verdict
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, KernelSide, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    DENIED_IN,
    DENIED_OUT,
    IN_COOKIE,
    OUT_COOKIE,
    PEER_CLASS,
    RULES,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    wildcard,
)
from tests.support.kernel_packets import ip
from tests.support.kernel_web import (
    FAR4,
    FAR6,
    PEER4,
    PEER6,
    SCTP,
    TCP,
    UDP,
    WEB4,
    WEB6,
    out,
)

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 80), (UDP, 53), (SCTP, 100)])
def test_what_a_rule_allows_passes_and_names_it(
    engine: KernelEngine, web: str, far: str, protocol: Protocol, port: int
) -> None:
    answer = engine.judge(web, far, protocol, port)
    assert answer.allowed
    assert answer.egress == KernelSide(allowed=True, reason=0, cookie=OUT_COOKIE)


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
@pytest.mark.parametrize(("protocol", "port"), [(TCP, 81), (UDP, 80), (SCTP, 80)])
def test_what_no_rule_allows_is_dropped_and_names_the_isolating_policies(
    engine: KernelEngine, web: str, far: str, protocol: Protocol, port: int
) -> None:
    egress = engine.judge(web, far, protocol, port).egress
    assert egress == KernelSide(allowed=False, reason=Reason.POLICY_DENIED, cookie=DENIED_OUT)


def test_ingress_is_judged_by_the_destinations_port_and_the_sources_class(
    engine: KernelEngine,
) -> None:
    assert engine.judge(PEER4, WEB4, TCP, 8080).ingress == KernelSide(
        allowed=True, reason=0, cookie=IN_COOKIE
    )
    assert engine.judge(PEER6, WEB6, TCP, 8080).allowed
    assert engine.judge(FAR4, WEB4, TCP, 8080).ingress == KernelSide(
        allowed=False, reason=Reason.POLICY_DENIED, cookie=DENIED_IN
    )


def test_an_endpoint_without_default_deny_is_open(engine: KernelEngine) -> None:
    engine.load(small_generation({}, flags=TableFlag(0)), ADDRESSES, [WEB_ENDPOINT])
    assert engine.judge(WEB4, FAR4, TCP, 9).allowed
    assert engine.judge(FAR6, WEB6, UDP, 9).allowed


def test_a_deny_for_any_port_beats_a_narrower_allow(engine: KernelEngine) -> None:
    denied = PolicyEntry(Verdict.DENY, 99)
    engine.load(
        wildcard(small_generation(), Direction.EGRESS, WORLD_CLASS, denied),
        ADDRESSES,
        [WEB_ENDPOINT],
    )
    assert engine.judge(WEB4, FAR4, TCP, 80).egress == KernelSide(
        allowed=False, reason=Reason.POLICY_DENY, cookie=99
    )


def test_a_deny_for_any_peer_beats_an_allow_for_one(engine: KernelEngine) -> None:
    denied = PolicyEntry(Verdict.DENY, 99)
    engine.load(
        wildcard(small_generation(), Direction.INGRESS, 0, denied), ADDRESSES, [WEB_ENDPOINT]
    )
    assert engine.judge(PEER4, WEB4, TCP, 8080).deciding == KernelSide(
        allowed=False, reason=Reason.POLICY_DENY, cookie=99
    )


def test_of_equal_verdicts_the_most_specific_entry_is_named(engine: KernelEngine) -> None:
    broad = PolicyEntry(Verdict.ALLOW, 98)
    engine.load(
        wildcard(small_generation(), Direction.INGRESS, PEER_CLASS, broad),
        ADDRESSES,
        [WEB_ENDPOINT],
    )
    named = engine.judge(PEER4, WEB4, TCP, 8080).ingress
    assert named
    assert named.cookie == IN_COOKIE
    other = engine.judge(PEER4, WEB4, TCP, 9).ingress
    assert other
    assert other.cookie == 98


def test_a_redirect_without_a_proxy_is_dropped(engine: KernelEngine) -> None:
    key = (Direction.EGRESS, WORLD_CLASS, TCP, 80)
    redirected = small_generation({**RULES, key: PolicyEntry(Verdict.REDIRECT, 5, 15001)})
    engine.load(redirected, ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).reason == Reason.NO_PROXY


def test_an_address_that_nobody_knows_is_dropped() -> None:
    generation = small_generation()
    label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=1)
    with kernel_engine() as fresh:
        fresh.datapath.activate(fresh.datapath.fill(generation, label=label))
        packet = ip(WEB4, FAR4, TCP, packets.tcp(1, 80))
        assert out(fresh, packet).reason == Reason.INVALID_IDENTITY


def test_ipv4_never_falls_to_the_ipv6_world(engine: KernelEngine) -> None:
    with pytest.raises(DatapathError, match=r"0\.0\.0\.0/0"):
        engine.datapath.upsert_addresses(replace(ADDRESSES, prefixes={"::/0": 2}))


def test_an_identity_without_a_class_is_dropped(engine: KernelEngine) -> None:
    unknown = replace(ADDRESSES, exact={**ADDRESSES.exact, FAR4: 4242})
    engine.load(small_generation(), unknown, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(1, 80))).reason == Reason.INVALID_IDENTITY


def test_an_endpoint_that_the_generation_does_not_know_is_dropped(engine: KernelEngine) -> None:
    stranger = replace(WEB_ENDPOINT, endpoint_id=8)
    packet = ip(WEB4, FAR4, TCP, packets.tcp(1, 80))
    assert engine.run(stranger, Direction.EGRESS, packet).reason == Reason.NO_TABLE


def test_before_the_first_generation_everything_is_dropped() -> None:
    with kernel_engine() as fresh:
        packet = ip(WEB4, FAR4, TCP, packets.tcp(1, 80))
        assert out(fresh, packet) == KernelSide(allowed=False, reason=Reason.NOT_READY, cookie=0)
