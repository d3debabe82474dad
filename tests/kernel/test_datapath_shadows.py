"""Generations that are asked beside the one in force: what differs is counted, and nothing changes.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from netpolicy.evidence import ASKED, Cause, Shadow
from netpolicy.rules import Direction, Protocol
from nodeagent.cli import main as cli
from nodeagent.datapath import (
    DatapathError,
    GenerationLabel,
    KernelDifference,
    Occasion,
    Reason,
    abi,
    abi_numbers,
    libbpf,
)
from nodeagent.plan.generation import Generation, PolicyEntry, TableFlag, Verdict
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import (
    OBJECT,
    TEST_INTERFACE,
    KernelEngine,
    KernelSide,
)
from tests.support.kernel_fixtures import (
    ADDRESSES,
    DENIED_IN,
    DENIED_OUT,
    OUT_COOKIE,
    PEER,
    RULES,
    WEB,
    WEB_ENDPOINT,
    WORLD,
    WORLD_CLASS,
    small_generation,
    without_rules,
)
from tests.support.kernel_mutations import mutated_packets
from tests.support.kernel_packets import ACK, SYN, ip

pytestmark = pytest.mark.kernel

TCP, UDP, ICMP = Protocol.TCP, Protocol.UDP, Protocol.ICMP
WEB4, PEER4, FAR4 = "10.0.0.1", "10.0.0.2", "192.0.2.1"
CANDIDATE, PREVIEW = Shadow.CANDIDATE, Shadow.PREVIEW
WIDE_COOKIE = 77
FLOOD = 50_000
MUTATED = 4_000
SHOT = 2
SEED = int(os.environ.get("TIDEGATE_SEED", "0")) or secrets.randbits(32)
LABEL = GenerationLabel(generation_digest="ab" * 32, bundle_digest="", sequence=2)
WIDER: dict[tuple[Direction, int, Protocol, int], PolicyEntry] = {
    **RULES,
    (Direction.EGRESS, WORLD_CLASS, TCP, 443): PolicyEntry(Verdict.ALLOW, WIDE_COOKIE),
}


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    shared_engine.datapath.set_shadows(candidate=None, preview=None)
    shared_engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    shared_engine.forget_flows()
    return shared_engine


def fill(engine: KernelEngine, generation: Generation) -> int:
    label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=2)
    return engine.datapath.fill(generation, label=label)


def shadow(engine: KernelEngine, generation: Generation) -> int:
    """Set a generation as the candidate."""
    slot = fill(engine, generation)
    engine.datapath.set_shadows(candidate=slot, preview=None)
    return slot


def out(engine: KernelEngine, port: int, source_port: int, flags: int = SYN) -> KernelSide:
    packet = ip(WEB4, FAR4, TCP, packets.tcp(source_port, port, flags))
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet)


def into(engine: KernelEngine, port: int, source_port: int, flags: int = SYN) -> KernelSide:
    packet = ip(PEER4, WEB4, TCP, packets.tcp(source_port, port, flags))
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, packet)


def counted(engine: KernelEngine, shadow: Shadow = CANDIDATE) -> dict[KernelDifference, int]:
    """Differences without their counts and times, to compare; and their counts."""
    return {
        replace(found, count=0, last_seen_ns=0): found.count
        for found in engine.datapath.read_differences(shadow)
    }


def denied_out(port: int, protocol: Protocol = TCP) -> KernelDifference:
    return KernelDifference(
        source_identity=WEB, destination_identity=WORLD, protocol=protocol, port=port,
        direction=Direction.EGRESS, cause=Cause.WOULD_DENY, reason=Reason.POLICY_DENIED,
        cookie=DENIED_OUT, count=0, last_seen_ns=0,
    )  # fmt: skip


def test_what_the_candidate_would_deny_passes_and_is_counted_with_its_policy(
    engine: KernelEngine,
) -> None:
    shadow(engine, without_rules())
    for source_port in range(3):
        assert out(engine, 80, 4000 + source_port).allowed
    assert into(engine, 8080, 4000).allowed
    inwards = KernelDifference(
        source_identity=PEER, destination_identity=WEB, protocol=TCP, port=8080,
        direction=Direction.INGRESS, cause=Cause.WOULD_DENY, reason=Reason.POLICY_DENIED,
        cookie=DENIED_IN, count=0, last_seen_ns=0,
    )  # fmt: skip
    assert counted(engine) == {denied_out(80): 3, inwards: 1}
    assert engine.datapath.read_coverage(CANDIDATE) == {WEB_ENDPOINT.endpoint_id: 4}


def test_what_the_candidate_would_allow_is_dropped_and_counted_each_time(
    engine: KernelEngine,
) -> None:
    shadow(engine, small_generation(WIDER))
    for _ in range(5):
        assert out(engine, 443, 4000).reason == Reason.POLICY_DENIED
    wanted = replace(denied_out(443), cause=Cause.WOULD_ALLOW, reason=0, cookie=WIDE_COOKIE)
    assert counted(engine) == {wanted: 5}


def test_a_flow_that_is_already_established_is_evidence_at_its_next_packet_and_once(
    engine: KernelEngine,
) -> None:
    assert out(engine, 80, 4000).allowed
    shadow(engine, without_rules())
    assert counted(engine) == {}
    for _ in range(4):
        assert out(engine, 80, 4000, ACK).allowed
    assert counted(engine) == {denied_out(80): 1}
    engine.datapath.bump_revision()
    assert out(engine, 80, 4000, ACK).allowed
    assert counted(engine) == {denied_out(80): 2}, "judged again, so counted again"


def test_candidate_and_preview_are_counted_apart_and_only_a_changed_one_begins_anew(
    engine: KernelEngine,
) -> None:
    datapath = engine.datapath
    tighter = fill(engine, without_rules())
    wider = datapath.fill(small_generation(WIDER), label=LABEL, keep={tighter})
    assert wider != tighter
    datapath.set_shadows(candidate=tighter, preview=wider)
    assert out(engine, 80, 4000).allowed
    assert not out(engine, 443, 4001).allowed
    would_allow = replace(denied_out(443), cause=Cause.WOULD_ALLOW, reason=0, cookie=WIDE_COOKIE)
    assert counted(engine, CANDIDATE) == {denied_out(80): 1}
    assert counted(engine, PREVIEW) == {would_allow: 1}
    datapath.set_shadows(candidate=tighter, preview=None)
    assert counted(engine, CANDIDATE) == {denied_out(80): 1}
    assert counted(engine, PREVIEW) == datapath.read_coverage(PREVIEW) == {}
    datapath.set_shadows(candidate=wider, preview=tighter)
    assert counted(engine, CANDIDATE) == counted(engine, PREVIEW) == {}
    assert datapath.read_coverage(CANDIDATE) == datapath.read_coverage(PREVIEW) == {}


def test_what_was_counted_of_a_shadow_stays_until_it_is_set_again(engine: KernelEngine) -> None:
    datapath = engine.datapath
    slot = shadow(engine, without_rules())
    assert out(engine, 80, 4000).allowed
    datapath.set_shadows(candidate=None, preview=None)
    assert out(engine, 80, 4001).allowed
    assert datapath.read_differences(CANDIDATE) == ()
    (last,) = datapath.read_differences(CANDIDATE, slot=slot)
    assert last.count == 1
    assert datapath.read_coverage(CANDIDATE, slot=slot) == {WEB_ENDPOINT.endpoint_id: 1}
    datapath.set_shadows(candidate=slot, preview=None)
    assert datapath.read_differences(CANDIDATE) == ()


def test_setting_the_shadows_that_are_set_judges_nothing_again(engine: KernelEngine) -> None:
    slot = shadow(engine, without_rules())
    before = engine.datapath.control()
    assert engine.datapath.set_shadows(candidate=slot, preview=None) == before.revision
    assert engine.datapath.control() == before


def test_a_slot_that_is_not_whole_becomes_no_shadow(engine: KernelEngine) -> None:
    slot = shadow(engine, without_rules())
    before = engine.datapath.control()
    empty = next(n for n in range(abi_numbers.SLOTS) if engine.datapath.slot_label(n) is None)
    with pytest.raises(DatapathError, match="no whole generation"):
        engine.datapath.set_shadows(candidate=slot, preview=empty)
    assert engine.datapath.control() == before


def test_what_is_promoted_is_what_was_observed(engine: KernelEngine) -> None:
    datapath = engine.datapath
    slot = shadow(engine, small_generation(WIDER))
    observed = (datapath.slot_label(slot), datapath.read_generation(slot))
    before = datapath.control()
    datapath.activate(slot)
    after = datapath.control()
    assert (after.active, after.candidate, after.previous) == (slot, None, before.active)
    assert after.revision == before.revision + 1
    assert (datapath.slot_label(slot), datapath.read_generation(slot)) == observed
    assert datapath.read_differences(CANDIDATE) == ()
    assert out(engine, 443, 4000).allowed


def test_filling_never_touches_a_slot_that_is_in_use(engine: KernelEngine) -> None:
    datapath = engine.datapath
    candidate = fill(engine, without_rules())
    preview = datapath.fill(small_generation(WIDER), label=LABEL, keep={candidate})
    datapath.set_shadows(candidate=candidate, preview=preview)
    for _ in range(abi_numbers.SLOTS):
        control = datapath.control()
        used = {control.active, control.candidate, control.preview, control.previous}
        slot = fill(engine, small_generation())
        assert slot not in used
        datapath.activate(slot)
    assert (datapath.control().candidate, datapath.control().preview) == (candidate, preview)
    assert datapath.read_generation(candidate)[0] == {}


@pytest.mark.parametrize("lost", ["policy", "class_of", "port_class", "endpoint_tables"])
def test_what_a_shadow_lacks_is_what_it_would_deny(engine: KernelEngine, lost: str) -> None:
    slot = shadow(engine, small_generation())
    with engine.opened(lost) as damaged:
        assert libbpf.delete(damaged, slot.to_bytes(4, sys.byteorder))
    assert out(engine, 80, 4000).allowed
    missing = replace(denied_out(80), reason=Reason.NO_GENERATION, cookie=0)
    assert counted(engine) == {missing: 1}


def test_a_shadow_that_does_not_know_the_endpoint_would_deny_it(engine: KernelEngine) -> None:
    shadow(engine, small_generation(endpoint_ids=(99,)))
    assert out(engine, 80, 4000).allowed
    assert counted(engine) == {replace(denied_out(80), reason=Reason.NO_TABLE, cookie=0): 1}


def test_an_icmp_error_of_a_judged_flow_counts_nothing(engine: KernelEngine) -> None:
    shadow(engine, without_rules())
    sent = packets.ipv4(WEB4, FAR4, UDP, packets.udp(4000, 53))
    assert engine.run(WEB_ENDPOINT, Direction.EGRESS, packets.ethernet(sent, packets.IPV4)).allowed
    error = ip(FAR4, WEB4, ICMP, packets.icmp(3, 4, data=sent))
    assert engine.run(WEB_ENDPOINT, Direction.INGRESS, error).allowed
    assert counted(engine) == {denied_out(53, UDP): 1}
    assert engine.datapath.read_coverage(CANDIDATE) == {WEB_ENDPOINT.endpoint_id: 1}


def test_an_audit_event_tells_the_shadows_verdict_beside_the_enforced_one(
    engine: KernelEngine,
) -> None:
    shadow(engine, without_rules())
    packet = ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))
    _, (audit, own) = engine.run_and_listen(WEB_ENDPOINT, Direction.EGRESS, packet)
    assert (audit.occasion, audit.shadow, audit.cause) == (
        Occasion.AUDIT, CANDIDATE, Cause.WOULD_DENY,
    )  # fmt: skip
    assert (audit.verdict, audit.reason, audit.cookie) == (
        Verdict.DENY, Reason.POLICY_DENIED, DENIED_OUT,
    )  # fmt: skip
    assert (own.occasion, own.verdict, own.cookie) == (Occasion.NEW, Verdict.ALLOW, OUT_COOKIE)
    assert (own.shadow, own.cause) == (None, None)
    ends = ("source", "destination", "source_port", "destination_port", "protocol", "direction")
    assert [getattr(audit, end) for end in ends] == [getattr(own, end) for end in ends]
    assert (audit.local_identity, audit.remote_identity) == (WEB, WORLD)


def test_the_counts_can_be_read_without_the_agent(engine: KernelEngine, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(
        f"node: node-a\ninventory: none.yaml\nsocket: {tmp_path}/s\nbpffs: {engine.bpffs}\n"
        f"bpf_object: {OBJECT}\n"
    )
    command = ["bpf", "shadow", "list", "--config", str(config)]
    slot = shadow(engine, without_rules())
    for source_port in range(3):
        assert out(engine, 80, 4000 + source_port).allowed
    shown = CliRunner().invoke(cli, [*command, "-o", "json"])
    candidate, preview = json.loads(shown.output)
    assert (candidate["slot"], candidate["flows"], candidate["lost"]) == (slot, 3, 0)
    assert candidate["generation"] == without_rules().digest
    (difference,) = candidate["differences"]
    wanted = {"cause": "would-deny", "direction": "egress", "port": 80, "count": 3}
    assert wanted.items() <= difference.items()
    assert (preview["slot"], preview["differences"]) == (None, [])
    table = CliRunner().invoke(cli, command).output
    assert "candidate: generation" in table
    assert "3 flows judged" in table
    assert "would-deny" in table
    assert "Policy denied" in table
    assert "preview: none" in table


def test_counts_are_exact_when_nobody_reads_the_events(engine: KernelEngine) -> None:
    shadow(engine, without_rules())
    lost = engine.datapath.counters().lost_events
    opening = ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))
    engine.datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
    engine.forget_events()
    engine.datapath.run_program(Direction.EGRESS, opening, repeat=FLOOD)
    kept = engine.waiting_events()
    audits = sum(event.occasion is Occasion.AUDIT for event in kept)
    assert list(counted(engine).values()) == [FLOOD]
    assert engine.datapath.read_coverage(CANDIDATE) == {WEB_ENDPOINT.endpoint_id: FLOOD}
    assert engine.datapath.counters().lost_events - lost + len(kept) == 2 * FLOOD
    assert len(kept) > audits, "what is enforced is told among them"
    assert audits <= engine.event_room // 2 + 1, "audits leave half of the ring to what is enforced"


def test_what_a_shadow_says_of_a_refused_flood_is_told_at_once_and_then_added_up(
    engine: KernelEngine,
) -> None:
    """A refused flow leaves no entry, so that each of its packets is judged, and differs, anew."""
    datapath = engine.datapath
    wider = datapath.fill(small_generation(WIDER), label=LABEL)
    datapath.set_shadows(candidate=wider, preview=wider)
    datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
    engine.forget_events()
    refused = ip(WEB4, FAR4, TCP, packets.tcp(4000, 443))
    datapath.run_program(Direction.EGRESS, refused, repeat=FLOOD)
    first = engine.waiting_events()
    assert [(event.shadow, event.occasion, event.packets) for event in first] == [
        (CANDIDATE, Occasion.AUDIT, 1),
        (PREVIEW, Occasion.AUDIT, 1),
        (None, Occasion.NEW, 1),
    ]
    engine.age_refusals(1)
    datapath.tell_refusals()
    sums = {event.shadow: event for event in engine.waiting_events()}
    assert {shadow: event.packets for shadow, event in sums.items()} == dict.fromkeys(
        (CANDIDATE, PREVIEW, None), FLOOD - 1
    )
    told = sums[CANDIDATE]
    assert (told.occasion, told.cause) == (Occasion.AUDIT, Cause.WOULD_ALLOW)
    assert (told.reason, told.cookie, told.source_port) == (0, WIDE_COOKIE, 4000)
    assert (sums[None].occasion, sums[None].reason) == (Occasion.PACKET, Reason.POLICY_DENIED)


def test_counts_are_exact_on_several_processors_at_once(engine: KernelEngine) -> None:
    engine.datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
    shadow(engine, without_rules())
    asked = [ip(WEB4, FAR4, TCP, packets.tcp(4000 + number, 80)) for number in range(4)]

    def run(packet: bytes) -> None:
        engine.datapath.run_program(Direction.EGRESS, packet, repeat=20_000)

    with ThreadPoolExecutor(max_workers=len(asked)) as threads:
        list(threads.map(run, asked))
    assert counted(engine) == {denied_out(80): 80_000}
    assert engine.datapath.read_coverage(CANDIDATE) == {WEB_ENDPOINT.endpoint_id: 80_000}


@pytest.mark.parametrize("kind", ASKED)
def test_differences_without_room_are_counted_as_lost(engine: KernelEngine, kind: Shadow) -> None:
    datapath, (other,) = engine.datapath, set(ASKED) - {kind}
    agreeing = fill(engine, small_generation())
    tighter = datapath.fill(without_rules(), label=LABEL, keep={agreeing})
    slots = {kind: tighter, other: agreeing}
    datapath.set_shadows(candidate=slots[CANDIDATE], preview=slots[PREVIEW])
    assert out(engine, 80, 4000).allowed
    engine.crowd_differences(kind)
    assert out(engine, 80, 4001).allowed
    for source_port in range(3):
        packet = ip(WEB4, FAR4, UDP, packets.udp(4000 + source_port, 53))
        assert engine.run(WEB_ENDPOINT, Direction.EGRESS, packet).allowed
    assert (datapath.lost_differences(kind), datapath.lost_differences(other)) == (3, 0)
    assert counted(engine, kind)[denied_out(80)] == 2
    datapath.set_shadows(candidate=None, preview=None)
    datapath.set_shadows(candidate=slots[CANDIDATE], preview=slots[PREVIEW])
    assert datapath.lost_differences(kind) == 0
    packet = ip(WEB4, FAR4, UDP, packets.udp(4009, 53))
    assert engine.run(WEB_ENDPOINT, Direction.EGRESS, packet).allowed
    assert counted(engine, kind) == {denied_out(53, UDP): 1}


def test_what_late_packets_count_for_the_shadow_before_is_not_taken_for_this_ones(
    engine: KernelEngine,
) -> None:
    before = shadow(engine, without_rules())
    after = engine.datapath.fill(without_rules(), label=LABEL)
    engine.datapath.set_shadows(candidate=after, preview=None)
    late = abi.DifferenceKey(source_identity=WEB, port=80, shadow=CANDIDATE, slot=before, cause=1)
    with engine.opened("differences") as differences:
        libbpf.update(differences, bytes(late), bytes(abi.Difference(count=5)))
    assert engine.datapath.read_differences(CANDIDATE) == ()
    engine.datapath.set_shadows(candidate=None, preview=None)
    engine.datapath.set_shadows(candidate=before, preview=None)
    assert engine.datapath.read_differences(CANDIDATE) == (), "forgotten with the rest"


def test_shadows_change_no_verdict_and_no_flow(engine: KernelEngine) -> None:
    """The same packets, most of them broken, with and without other generations beside."""
    random = Random(SEED)
    print(f"seed {SEED}")
    sent = [
        (random.choice(tuple(Direction)), packet)
        for packet in mutated_packets(random.getrandbits(32), MUTATED)
    ]
    outcomes = []
    for candidate, preview in (
        (None, None),
        (fill(engine, without_rules()), None),
        (None, fill(engine, small_generation(WIDER, flags=TableFlag(0)))),
    ):
        engine.datapath.set_shadows(candidate=candidate, preview=preview)
        engine.forget_flows()
        engine.datapath.set_endpoint(WEB_ENDPOINT, TEST_INTERFACE)
        drops = engine.datapath.counters().drops
        results = [engine.datapath.run_program(way, packet)[0] for way, packet in sent]
        after = engine.datapath.counters().drops
        flows = {
            replace(flow, revision=0, last_seen_ns=0) for flow in engine.datapath.read_conntrack()
        }
        outcomes.append((results, {k: n - drops.get(k, 0) for k, n in after.items()}, flows))
        if candidate is not None:
            assert sum(counted(engine).values()) > 0
    assert outcomes[1] == outcomes[0]
    assert outcomes[2] == outcomes[0]
    assert 0 < outcomes[0][0].count(SHOT) < len(sent)
