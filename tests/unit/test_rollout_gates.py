"""Gates: what evidence passes, fails, or says too little."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.evidence import AnswerCounts, Cause, Difference, NodeEvidence, Role
from netpolicy.inventory import Node
from netpolicy.labels import parse_labels
from netpolicy.rules import Protocol
from reconciler.rollout.events import GateFailed
from reconciler.rollout.evidence import Evidence, add, evidence_of
from reconciler.rollout.expected import ExpectedDenial
from reconciler.rollout.gates import Answer, Fleet, judge_stage, unexpected
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.plan import Gates, Plan, Stage, StageKind
from reconciler.rollout.progress import due
from reconciler.rollout.reversals import PATIENCE_SECONDS, Reversal
from reconciler.rollout.verdict import UNSEEN, judge_rollout
from tests.support.rollout_scene import cut

DIGEST = "d" * 64
NODES = frozenset({"a", "b"})
NO_DENIALS = Gates()
FLEET = Fleet(nodes=NODES, refusing={})


def report(node: str, *differences: Difference, **more: object) -> NodeEvidence:
    plain = NodeEvidence(
        node=node,
        candidate_digest=DIGEST,
        generation_digest="e" * 64,
        role=Role.SHADOW,
        flows=5,
        pods=2,
        differences=differences,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def evidence(*reports: NodeEvidence) -> Evidence:
    return evidence_of(DIGEST, reports)


def answer(found: Evidence, *, gates: Gates = NO_DENIALS, fleet: Fleet = FLEET) -> Answer:
    return judge_stage(gates, found, fleet, ()).answer


def test_traffic_on_every_node_and_nothing_cut_passes() -> None:
    assert answer(evidence(report("a"), report("b"))) is Answer.PASS


def test_one_flow_that_would_be_cut_fails_and_is_named() -> None:
    verdict = judge_stage(Gates(), evidence(report("a", cut(1)), report("b")), FLEET, ())
    assert verdict.answer is Answer.FAIL
    assert "shop/prometheus → shop/web tcp/9090" in verdict.reasons[0]


def test_as_many_as_the_gate_allows_may_be_cut_and_no_more() -> None:
    found = evidence(report("a", cut(2)), report("b", cut(1)))
    assert answer(found, gates=Gates(unexpected_denials=3)) is Answer.PASS
    assert answer(found, gates=Gates(unexpected_denials=2)) is Answer.FAIL


def test_newly_allowed_flows_count_only_where_a_gate_says_so() -> None:
    opened = replace(cut(4), cause=Cause.WOULD_ALLOW)
    found = evidence(report("a", opened), report("b"))
    assert answer(found) is Answer.PASS
    assert answer(found, gates=Gates(unexpected_allows=4)) is Answer.PASS
    assert answer(found, gates=Gates(unexpected_allows=3)) is Answer.FAIL


def test_what_only_enforcing_can_show_is_inconclusive_until_some_node_enforces() -> None:
    unseen = replace(cut(7), cause=Cause.NOT_OBSERVED)
    found = evidence(report("a", unseen), report("b"))
    verdict = judge_stage(Gates(), found, FLEET, ())
    assert verdict.answer is Answer.INCONCLUSIVE
    assert verdict.reasons[0].startswith("not observed: 7 requests that new limits or TLS settings")
    enforcing = evidence(report("a", unseen), report("b"), report("a", role=Role.ENFORCING))
    assert answer(enforcing, fleet=replace(FLEET, chosen=frozenset({"a"}))) is Answer.PASS


def test_a_port_that_nobody_looks_into_yet_is_inconclusive_until_some_node_does() -> None:
    unread = replace(cut(7), cause=Cause.WOULD_REDIRECT)
    found = evidence(report("a", unread), report("b"))
    verdict = judge_stage(Gates(), found, FLEET, ())
    assert verdict.answer is Answer.INCONCLUSIVE
    assert verdict.reasons == (
        "not observed: the requests of 7 flows that nobody looks into yet and that new rules are for:"
        " shop/prometheus → shop/web tcp/9090",
    )
    enforcing = evidence(report("a", unread), report("b"), report("a", role=Role.ENFORCING))
    assert answer(enforcing, fleet=replace(FLEET, chosen=frozenset({"a"}))) is Answer.PASS


def test_differences_that_were_counted_but_not_listed_fail() -> None:
    assert answer(evidence(report("a", omitted=1), report("b"))) is Answer.FAIL


def test_too_little_of_anything_is_inconclusive_and_says_what() -> None:
    for found, missing in (
        (evidence(), "no report on the candidate from a, b"),
        (evidence(report("a")), "no report on the candidate from b"),
        (evidence(report("a", flows=0, pods=0), report("b", flows=0, pods=0)), "0 flows seen"),
        (evidence(report("a", pods=0), report("b", pods=0)), "0 pods seen of 1 needed"),
        (evidence(report("a"), report("b", role=Role.NONE)), "no report on the candidate from b"),
    ):
        verdict = judge_stage(Gates(), found, FLEET, ())
        assert verdict.answer is Answer.INCONCLUSIVE
        assert missing in "; ".join(verdict.reasons)
    assert answer(evidence(), fleet=Fleet(nodes=frozenset(), refusing={})) is Answer.INCONCLUSIVE


def test_silent_nodes_are_excused_only_as_many_as_the_gate_allows() -> None:
    found = evidence(report("a"))
    assert answer(found, gates=Gates(unreported_nodes=1)) is Answer.PASS


def test_a_chosen_node_that_does_not_enforce_yet_holds_the_stage() -> None:
    fleet = replace(FLEET, chosen=frozenset({"a"}))
    assert answer(evidence(report("a"), report("b")), fleet=fleet) is Answer.INCONCLUSIVE
    enforcing = evidence(report("a", role=Role.ENFORCING), report("b"))
    assert answer(enforcing, fleet=fleet) is Answer.PASS


def test_a_node_that_went_back_or_failed_or_refused_fails_the_stage() -> None:
    both = (report("a"), report("b"))
    assert answer(evidence(report("a", role=Role.REVERTED), both[1])) is Answer.FAIL
    assert answer(evidence(report("a", error="no room"), both[1])) is Answer.FAIL
    assert answer(evidence(*both), fleet=replace(FLEET, refusing={"b": "bad"})) is Answer.FAIL
    assert answer(evidence(*both), fleet=replace(FLEET, refusing={"gone": "bad"})) is Answer.PASS


def test_what_a_node_saw_while_observing_is_kept_when_it_enforces() -> None:
    found = evidence(report("a", cut(7)), report("a", role=Role.ENFORCING, flows=0, pods=0))
    assert (found.flows, found.pods, [d.count for d in found.differences()]) == (5, 2, [7])
    assert found.reports["a"].observed == {"e" * 64}


def test_reports_on_another_candidate_count_for_nothing() -> None:
    found = evidence(report("a"))
    assert add(found, [report("a", cut(9), candidate_digest="c" * 64)]) == found


def test_equally_frequent_differences_have_an_order_too() -> None:
    both = (cut(1, port=80), cut(1, port=81))
    for told in (both, both[::-1]):
        assert evidence(report("node-a", *told)).differences() == both


@pytest.mark.parametrize(("before", "now", "expected"), [
    (AnswerCounts(requests=100), AnswerCounts(requests=100, refused=5), Answer.PASS),
    (AnswerCounts(requests=100), AnswerCounts(requests=100, refused=6), Answer.FAIL),
    (AnswerCounts(requests=100, refused=50), AnswerCounts(requests=20, refused=11), Answer.PASS),
    (AnswerCounts(requests=100, failed=10), AnswerCounts(requests=100, failed=16), Answer.FAIL),
    (AnswerCounts(requests=19), AnswerCounts(requests=100, refused=100), Answer.PASS),
    (AnswerCounts(requests=100), AnswerCounts(requests=19, refused=19), Answer.PASS),
])  # fmt: skip
def test_a_risen_share_of_refused_or_failed_requests_fails_the_stage(
    before: AnswerCounts, now: AnswerCounts, expected: Answer
) -> None:
    # The other node only observes: its answers are no change of anything.
    watching = report("b", answers=AnswerCounts(requests=1000, refused=1000))
    found = evidence(watching, report("a", answers=before))
    found = add(found, [report("a", role=Role.ENFORCING, answers=now)])
    assert answer(found) is expected


def test_an_intent_covers_exactly_its_own_flow() -> None:
    expected = ExpectedDenial(
        name="",
        source=parse_labels(["k8s:app=prometheus"]).items,
        destination=parse_labels(["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"]).items,
        protocol=Protocol.TCP,
        port=9090,
    )
    assert unexpected([cut()], [expected]) == ()
    for other in (
        cut(port=80),
        cut(source="frontend"),
        replace(cut(), protocol=Protocol.UDP),
        replace(cut(), destination=cut().source, source=cut().destination),
    ):
        assert unexpected([other], [expected]) == (other,)


def test_a_node_that_waits_for_something_holds_the_stage_and_a_failure_outweighs_it() -> None:
    good = evidence(report("a"), report("b"))
    waits = replace(FLEET, awaiting={"b": "no handshake yet with a", "gone": "anything"})
    verdict = judge_stage(NO_DENIALS, good, waits, ())
    assert verdict.answer is Answer.INCONCLUSIVE
    assert verdict.reasons == ("b: no handshake yet with a",)
    assert answer(good, fleet=replace(waits, refusing={"a": "why"})) is Answer.FAIL


def test_after_the_promotion_only_health_counts() -> None:
    plan = Plan(stages=(Stage(kind=StageKind.SHADOW, soak_seconds=1),))
    rollout = Rollout(revision="r", phase=Phase.PUBLISHED, plan=plan, stage=1, sequence=3)
    nodes = (Node(name="a"), Node(name="b"))
    assert judge_rollout(rollout, evidence(report("a", cut())), nodes, {}) == UNSEEN
    assert judge_rollout(rollout, evidence(), nodes, {"b": "why"}).answer is Answer.FAIL
    unpublished = replace(rollout, phase=Phase.SHADOW, stage=0, sequence=0)
    assert judge_rollout(unpublished, evidence(report("a", cut())), nodes, {"b": "old"}) == UNSEEN
    direct = replace(rollout, plan=Plan())
    assert judge_rollout(direct, evidence(), nodes, {"b": "why"}) == UNSEEN


@pytest.mark.parametrize(
    ("flipped", "heard", "is_to_blame"),
    [
        (1000.0, 1030.0, True),
        (1000.0, 1030.0 + PATIENCE_SECONDS, True),
        (1000.0, 1031.0 + PATIENCE_SECONDS, False),
        (0.0, 1030.0, False),
    ],
)
def test_a_promoted_revision_is_blamed_for_a_node_that_goes_back_soon_after_its_flip(
    flipped: float, heard: float, is_to_blame: bool
) -> None:
    plan = Plan(stages=(Stage(kind=StageKind.SHADOW, soak_seconds=1),), confirm_seconds=30)
    promoted = Rollout(
        revision="r", phase=Phase.PROMOTED, stable="s", sequence=4, plan=plan, own_plan=plan
    )
    went_back = (Reversal(node="b", flipped=flipped, heard=heard),)
    verdict = judge_rollout(promoted, evidence(), (), {"b": "why"}, went_back)
    assert (verdict.answer is Answer.FAIL) == is_to_blame
    event = due(promoted, verdict, fleet_enforces=True, now=heard)
    assert isinstance(event, GateFailed) == is_to_blame
    first = replace(promoted, stable="")
    assert due(first, verdict, fleet_enforces=True, now=heard) is None


REPORTS = st.lists(
    st.builds(
        lambda node, count, flows, role, error: report(
            node, *([cut(count)] if count else []), flows=flows, role=role, error=error
        ),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(Role),
        st.sampled_from(["", "", "broken"]),
    ),
    max_size=6,
)


@given(REPORTS, st.integers(0, 4), st.integers(1, 3))
def test_more_denials_never_turn_a_failure_into_anything_better(
    reports: list[NodeEvidence], allowed: int, more: int
) -> None:
    gates = Gates(unexpected_denials=allowed)
    before, after = evidence(*reports), evidence(*reports, report("d", cut(more)))
    if answer(before, gates=gates) is Answer.FAIL:
        assert answer(after, gates=gates) is Answer.FAIL


@given(REPORTS)
def test_a_pass_needs_every_node_healthy_and_traffic(reports: list[NodeEvidence]) -> None:
    found = evidence(*reports)
    if answer(found) is Answer.PASS:
        assert found.flows >= 1
        assert not found.differences()
        latest = {node: found.reports[node].latest for node in NODES}
        assert all(one.role in (Role.SHADOW, Role.ENFORCING) for one in latest.values())
        assert not any(one.error for one in latest.values())


@given(REPORTS, st.randoms(use_true_random=False))
def test_the_order_of_nodes_reports_changes_nothing(reports: list[NodeEvidence], chance) -> None:
    by_node = {one.node: one for one in reports}
    shuffled = list(by_node.values())
    chance.shuffle(shuffled)
    assert evidence(*by_node.values()) == evidence(*shuffled)
    assert evidence(*by_node.values()).differences() == evidence(*shuffled).differences()
