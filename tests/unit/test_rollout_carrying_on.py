"""A rollout whose record was lost goes on where it was said to stand, or begins anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.rollout.carrying_on import OnItsWay, carried_on
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.plan import Plan, Stage, StageKind
from reconciler.rollout.progress import soak_left

PLAN = Plan(
    stages=(
        Stage(kind=StageKind.SHADOW, soak_seconds=60),
        Stage(kind=StageKind.WAVE, soak_seconds=600, percent=50),
    )
)
FRESH = Rollout(revision="new", digest="d", stable="old", plan=PLAN, stable_plan=PLAN)
SAID = OnItsWay(
    revision="new",
    stable="old",
    phase=Phase.WAVE,
    stage=1,
    stages=("shadow", "wave 50%"),
    since=1000.0,
    reason="because",
)


def test_it_stands_in_the_same_stage_with_what_is_left_of_its_soak() -> None:
    rollout = carried_on(SAID, FRESH, now=1100.0)
    assert rollout is not None
    assert (rollout.phase, rollout.stage, rollout.reason) == (Phase.WAVE, 1, "because")
    assert (rollout.digest, rollout.stable, rollout.plan) == ("d", "old", PLAN)
    assert soak_left(replace(rollout, sequence=7), 1100.0) == 500.0


@pytest.mark.parametrize("since", [0.0, 9999.0])
def test_what_was_not_published_or_is_said_to_be_of_the_future_soaks_from_now_on(
    since: float,
) -> None:
    rollout = carried_on(replace(SAID, since=since), FRESH, now=1100.0)
    assert rollout is not None
    assert rollout.since == 1100.0


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.INCONCLUSIVE])
def test_a_halt_stays_a_halt(phase: Phase) -> None:
    rollout = carried_on(replace(SAID, phase=phase), FRESH, now=1100.0)
    assert rollout is not None
    assert (rollout.phase, rollout.since) == (phase, 1000.0)


@pytest.mark.parametrize(
    "said",
    [
        replace(SAID, revision="other"),
        replace(SAID, stable="another"),
        replace(SAID, stages=("shadow", "wave 80%")),
        replace(SAID, stages=("shadow",)),
        replace(SAID, stage=2),
        replace(SAID, stage=-1),
        replace(SAID, stage=0),
        replace(SAID, phase=Phase.PROMOTED),
        replace(SAID, phase=Phase.QUARANTINED),
    ],
)
def test_what_is_not_the_same_way_begins_anew(said: OnItsWay) -> None:
    assert carried_on(said, FRESH, now=1100.0) is None
