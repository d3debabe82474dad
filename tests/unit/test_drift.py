"""What counts as drift, from values alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Control, Filter, GenerationLabel, Holdings
from nodeagent.drift.compare import DriftKind, Intended, compare
from nodeagent.drift.status import DriftStatus
from nodeagent.drift.watch import until_disarmed

LABEL = GenerationLabel(generation_digest="ab" * 32, bundle_digest="cd" * 32, sequence=1)
CONTROL = Control(revision=5, active=2, previous=1)
OURS = tuple(
    Filter(
        ifindex=7, direction=way, kind="bpf", handle=0x7467, priority=1, name="tidegate",
        program_id=program,
    )
    for way, program in ((Direction.INGRESS, 11), (Direction.EGRESS, 12))
)  # fmt: skip
FOREIGN = replace(OURS[0], handle=1, name="theirs", program_id=99)
INTENDED = Intended(
    control=CONTROL,
    labels={2: LABEL},
    slots={2: {"policy": b"p", "class_of": b"c"}},
    addresses={"addresses": b"a", "prefixes": b"x"},
    endpoints={7: b"web"},
    local_ends={b"address": b"end"},
    attached=frozenset({7}),
    programs={Direction.INGRESS: 11, Direction.EGRESS: 12},
    pins={"v/maps/policy": "31", "current": "v"},
)
HELD = Holdings(
    control=CONTROL,
    labels={2: LABEL},
    slots={2: {"policy": b"p", "class_of": b"c"}},
    addresses={"addresses": b"a", "prefixes": b"x"},
    endpoints={7: b"web"},
    local_ends={b"address": b"end"},
    into_pod=11,
    interfaces=frozenset({1, 7}),
    filters=OURS,
    pins={"v/maps/policy": "31", "current": "v"},
)


def test_what_is_held_as_intended_is_no_drift():
    assert compare(INTENDED, HELD) == ()


@pytest.mark.parametrize(
    ("changed", "kind", "number"),
    [
        ({"control": replace(CONTROL, revision=6)}, DriftKind.CONTROL, -1),
        ({"labels": {2: None}}, DriftKind.GENERATION, 2),
        ({"slots": {2: {"policy": b"other", "class_of": b"c"}}}, DriftKind.GENERATION, 2),
        ({"slots": {2: {"policy": b"p"}}}, DriftKind.GENERATION, 2),
        ({"addresses": {"addresses": b"a", "prefixes": b"y"}}, DriftKind.ADDRESSES, -1),
        ({"endpoints": {}}, DriftKind.ENDPOINTS, 7),
        ({"local_ends": {}}, DriftKind.LOCAL_ENDS, -1),
        ({"into_pod": 0}, DriftKind.LOCAL_ENDS, -1),
        ({"into_pod": 12}, DriftKind.LOCAL_ENDS, -1),
        ({"local_ends": {b"address": b"other"}}, DriftKind.LOCAL_ENDS, -1),
        ({"endpoints": {7: b"other"}}, DriftKind.ENDPOINTS, 7),
        ({"endpoints": {7: b"web", 9: b"web"}}, DriftKind.ENDPOINTS, 9),
        ({"filters": OURS[:1]}, DriftKind.PROGRAM, 7),
        ({"filters": (OURS[0], replace(OURS[1], program_id=99))}, DriftKind.PROGRAM, 7),
        ({"filters": (FOREIGN, *OURS)}, DriftKind.FOREIGN_FILTER, 7),
        ({"filters": (replace(FOREIGN, kind="tcx"), *OURS)}, DriftKind.FOREIGN_PROGRAM, 7),
        ({"pins": {"v/maps/policy": "32", "current": "v"}}, DriftKind.PIN, -1),
        ({"pins": {"v/maps/policy": "31"}}, DriftKind.PIN, -1),
    ],
)
def test_each_difference_is_named_once(changed: dict[str, object], kind: DriftKind, number: int):
    (drift,) = compare(INTENDED, replace(HELD, **changed))
    assert (drift.kind, drift.number) == (kind, number)
    assert drift.where
    assert drift.what


def test_a_filter_behind_ours_and_an_interface_that_is_gone_are_no_drift():
    assert compare(INTENDED, replace(HELD, filters=(*OURS, FOREIGN))) == ()
    gone = replace(HELD, interfaces=frozenset({1}), filters=(), endpoints={})
    assert compare(INTENDED, gone) == ()


def test_what_a_broken_plan_may_have_written_is_not_held_against_anything():
    torn = replace(INTENDED, addresses=None, endpoints=None)
    assert compare(torn, replace(HELD, addresses={}, endpoints={9: b"x"})) == ()


def test_the_status_counts_by_kind():
    (drift,) = compare(INTENDED, replace(HELD, endpoints={}))
    status = DriftStatus().checked(now=1.0, seconds=0.1).with_found([drift], now=2.0)
    assert status.found == {DriftKind.ENDPOINTS: 1}
    assert (status.found_at, status.repaired_at) == (2.0, 0.0)
    status = status.with_repaired([drift], now=3.0).with_standing(())
    assert status.repaired == {DriftKind.ENDPOINTS: 1}
    assert status.with_found([], now=9.0) == status


@pytest.mark.parametrize(
    "glances",
    [[set(), {7}], [{7}, set(), {7}], [{7}, {7, 8}]],
    ids=["taken-off", "put-back-and-taken-off-again", "another-too"],
)
def test_programs_taken_off_are_seen_at_the_next_glance_however_often(glances: list[set[int]]):
    left = iter(glances)

    async def script() -> None:
        async with asyncio.timeout(10):
            await until_disarmed(lambda: next(left), every=0.0, at_most=3600.0)

    asyncio.run(script())
    assert next(left, None) is None


def test_what_could_not_be_put_back_waits_until_it_is_due():
    looks = []

    def glance() -> set[int]:
        looks.append(0)
        return {7}

    asyncio.run(until_disarmed(glance, every=0.001, at_most=0.02))
    assert len(looks) > 1
