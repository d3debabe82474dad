"""What the kernel counted of a candidate, by names; and how often that is news."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from netpolicy.evaluate import Outcome
from netpolicy.evidence import MAX_DIFFERENCES, Cause, Difference, FlowSide, Role, Shadow
from netpolicy.http_flow import form_of
from netpolicy.labels import parse_labels
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from nodeagent.datapath import Control, KernelDifference
from nodeagent.plan.generation import Attribution, Generation
from nodeagent.receive.reports import BYTES_PER_SECOND, REPEAT_SECONDS, Pace
from nodeagent.rollout.request_tally import RequestTally
from nodeagent.rollout.tally import (
    Enforced,
    Names,
    Tally,
    names_of,
    report,
    tally,
    tally_of,
    total,
)
from nodeagent.shadow_watch import EVIDENCE_FILES, Followed, ShadowWatch
from tests.support.agent_scene import REMOTE, WEB
from tests.support.datapath_model import ModelDatapath

RULE = RuleId(policy=PolicyId(kind=PolicyKind.CNP, namespace="shop", name="deny"), origin="x[0]")
WORLD = parse_labels(["reserved:world"])
NAMES = names_of(
    {5: WEB.labels, 6: REMOTE.labels, 2: WORLD},
    [REMOTE, replace(REMOTE, address="10.0.9.8"), replace(REMOTE, labels=WEB.labels, namespace="shop",
     name="a"), replace(REMOTE, labels=WEB.labels, namespace="shop", name="b")],
    {1: Attribution(Outcome.DENIED_BY_RULE, (RULE,))},
)  # fmt: skip
SEEN = KernelDifference(
    source_identity=5,
    destination_identity=6,
    protocol=6,
    port=443,
    direction=Direction.EGRESS,
    cause=Cause.WOULD_DENY,
    reason=133,
    cookie=1,
    count=3,
    last_seen_ns=1,
)


def test_numbers_become_names_where_a_plan_has_them() -> None:
    (found,) = tally([SEEN], {}, lost=0, names=NAMES).differences
    assert found.source == FlowSide(namespace="shop", labels=WEB.labels)
    assert found.destination == FlowSide(namespace="far", pod="db", labels=REMOTE.labels)
    assert found.rules == (RULE,)
    outside = replace(SEEN, destination_identity=2, cookie=9)
    (found,) = tally([outside], {}, lost=0, names=NAMES).differences
    assert (found.destination, found.rules) == (FlowSide(labels=WORLD), ())


def test_counts_of_one_name_are_summed_and_only_endpoints_that_were_judged_are_pods() -> None:
    again = replace(SEEN, reason=134, count=4)
    counted = tally([SEEN, again], {1: 5, 2: 0, 3: 2}, lost=6, names=NAMES)
    assert list(counted.differences.values()) == [7]
    assert (counted.flows, counted.pods, counted.omitted) == (7, 2, 6)


def test_a_report_lists_the_most_frequent_and_counts_the_rest() -> None:
    many = [replace(SEEN, port=n, count=n) for n in range(1, MAX_DIFFERENCES + 11)]
    told = report(
        tally(many, {}, lost=5, names=NAMES),
        node="n",
        candidate_digest="c",
        generation_digest="g",
        role=Role.SHADOW,
    )
    assert len(told.differences) == MAX_DIFFERENCES
    assert told.differences[0].count == MAX_DIFFERENCES + 10
    assert told.omitted == 5 + sum(range(1, 11))


COUNTS = st.lists(
    st.builds(
        lambda port, count: replace(SEEN, port=port, count=count),
        st.integers(0, 3),
        st.integers(1, 9),
    ),
    max_size=6,
)


@given(COUNTS, COUNTS, st.integers(0, 5))
def test_a_tally_grows_only_and_survives_as_a_report(
    first: list[KernelDifference], second: list[KernelDifference], lost: int
) -> None:
    earlier = tally(first, {1: len(first)}, lost=lost, names=NAMES)
    both = total(earlier, tally(second, {1: len(second)}, lost=lost, names=NAMES))
    for difference, count in earlier.differences.items():
        assert both.differences[difference] >= count
    assert sum(both.differences.values()) == sum(one.count for one in [*first, *second])
    told = report(both, node="n", candidate_digest="", generation_digest="", role=Role.SHADOW)
    assert tally_of(told) == both


def followed(candidate: str, names: Names | None = NAMES) -> Followed:
    return Followed(
        bundle_digest=candidate * 64, generation_digest="b" * 64, role=Role.SHADOW, names=names
    )


def test_counts_are_kept_when_the_kernel_forgets_them_and_through_a_restart(tmp_path: Path) -> None:
    kernel = ModelDatapath()
    kernel.differences[Shadow.CANDIDATE], kernel.coverage[Shadow.CANDIDATE] = (SEEN,), {1: 4}
    watch = ShadowWatch(kernel, Shadow.CANDIDATE, node="n", state_dir=tmp_path)  # type: ignore[arg-type]
    watch.follow(followed("a"))
    before = watch.evidence()
    watch.settle()
    kernel.differences.clear()
    kernel.coverage.clear()
    watch.follow(followed("a"))
    assert watch.evidence() == before
    assert before is not None
    assert (before.flows, before.differences[0].count) == (4, 3)
    restarted = ShadowWatch(kernel, Shadow.CANDIDATE, node="n", state_dir=tmp_path)  # type: ignore[arg-type]
    restarted.follow(followed("a"))
    assert restarted.evidence() == before


class CountedUnderSlotThree(ModelDatapath):
    """A kernel that counted something under one slot."""

    def read_differences(
        self, shadow: Shadow, *, slot: int | None = None
    ) -> tuple[KernelDifference, ...]:
        return (SEEN,) if slot == 3 else ()


def test_the_last_counts_are_read_by_the_slot_that_the_candidate_had(tmp_path: Path) -> None:
    kernel = CountedUnderSlotThree(word=Control(revision=1, active=0, candidate=3))
    watch = ShadowWatch(kernel, Shadow.CANDIDATE, node="n", state_dir=tmp_path)  # type: ignore[arg-type]
    watch.follow(followed("a"))
    kernel.word = Control(revision=2, active=0)
    watch.settle()
    watch.follow(followed("a"))
    told = watch.evidence()
    assert told is not None
    assert [one.count for one in told.differences] == [SEEN.count]


NOTHING = Generation(
    policy={}, class_of={}, port_class_of={}, endpoint_tables={}, attributions={}, digest=""
)


def refused(path: str) -> Difference:
    return Difference(
        source=FlowSide(),
        destination=FlowSide(),
        protocol=6,
        port=80,
        direction=Direction.INGRESS,
        cause=Cause.WOULD_DENY,
        request=form_of("GET", path),
    )


def test_requests_that_were_counted_while_it_was_watched_count_once_where_it_is_enforced(
    tmp_path: Path,
) -> None:
    kernel, requests = ModelDatapath(), RequestTally()
    watch = ShadowWatch(
        kernel,  # type: ignore[arg-type]
        Shadow.CANDIDATE,
        node="n",
        state_dir=tmp_path,
        requests=requests,
    )
    watch.follow(followed("a"))
    requests.add(refused("/orders"))
    watch.settle()
    names = replace(NAMES, enforced=Enforced(generation=NOTHING, endpoints={}))
    watch.follow(replace(followed("a"), role=Role.ENFORCING, names=names))
    for path in ("/orders", "/orders", "/carts"):
        requests.add(refused(path))
    for _ in range(2):
        told = watch.evidence()
        assert told is not None
        counted = {str(one.request): one.count for one in told.differences}
        assert counted == {"GET /orders": 1, "GET /carts": 1}
        watch.settle()


def test_another_candidate_begins_anew_and_a_damaged_file_counts_for_nothing(
    tmp_path: Path,
) -> None:
    kernel = ModelDatapath()
    kernel.differences[Shadow.CANDIDATE] = (SEEN,)
    watch = ShadowWatch(kernel, Shadow.CANDIDATE, node="n", state_dir=tmp_path)  # type: ignore[arg-type]
    watch.follow(followed("a"))
    watch.settle()
    kernel.differences.clear()
    watch.follow(followed("c"))
    told = watch.evidence()
    assert told is not None
    assert told.differences == ()
    watch.follow(None)
    assert watch.evidence() is None
    for damage in (
        b"",
        b"\xff" * 50,
        (tmp_path / EVIDENCE_FILES[Shadow.CANDIDATE]).read_bytes()[:-3],
    ):
        (tmp_path / EVIDENCE_FILES[Shadow.CANDIDATE]).write_bytes(damage)
        restarted = ShadowWatch(kernel, Shadow.CANDIDATE, node="n", state_dir=tmp_path)  # type: ignore[arg-type]
        restarted.follow(followed("a"))
        told = restarted.evidence()
        assert told is not None
        assert (told.flows, told.differences) == (0, ())


def test_news_is_told_at_once_the_rest_is_repeated_and_large_reports_wait() -> None:
    pace, empty = Pace(), Tally()
    one = report(empty, node="n", candidate_digest="", generation_digest="", role=Role.SHADOW)
    other = replace(one, flows=1)
    assert pace.is_due(one, now=100.0)
    pace.sent(one, 100, now=100.0)
    assert not pace.is_due(one, now=100.0 + REPEAT_SECONDS - 0.1)
    assert pace.is_due(one, now=100.0 + REPEAT_SECONDS)
    assert pace.is_due(other, now=101.0)
    pace.sent(other, 3 * BYTES_PER_SECOND, now=101.0)
    assert not pace.is_due(one, now=103.9)
    assert pace.is_due(one, now=104.0)
