"""The way to Git after a flip: proven, awaited, or lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.rollout.events import FleetAcked, LifelineLost, StagePassed
from reconciler.rollout.gates import Answer, Verdict
from reconciler.rollout.lifeline import (
    TRIES,
    Contact,
    Lifeline,
    begun,
    ended,
    fetch_is_due,
    lifeline_of,
)
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.plan import DIRECT, Plan, Stage, StageKind
from reconciler.rollout.progress import due

CONFIRM = 30
SHADOW = Stage(kind=StageKind.SHADOW, soak_seconds=0)
CANARY = Stage(kind=StageKind.CANARY, soak_seconds=0, labels=(("canary", "true"),))
ROLLOUT = Rollout(
    revision="r",
    phase=Phase.CANARY,
    plan=Plan(stages=(SHADOW, CANARY), confirm_seconds=CONFIRM),
    stage=1,
    sequence=4,
    since=1000.0,
    stable="s",
)
FLIP = 1002.0
BEFORE = Contact(began=990.0, answered=990.0)


def fetched(contact: Contact, *, began: float, ended_at: float, answered: bool) -> Contact:
    return ended(begun(contact, now=began), answered=answered, now=ended_at)


FAILED_AFTER = fetched(BEFORE, began=1003.0, ended_at=1010.0, answered=False)


def test_a_flip_stays_by_a_fetch_that_began_after_it() -> None:
    after = fetched(BEFORE, began=FLIP + 1, ended_at=FLIP + 2, answered=True)
    assert lifeline_of(ROLLOUT, after, [FLIP], now=9000.0) is Lifeline.OPEN


def test_a_fetch_that_began_before_the_flip_proves_nothing() -> None:
    during = fetched(BEFORE, began=FLIP - 1, ended_at=FLIP + 5, answered=True)
    assert lifeline_of(ROLLOUT, during, [FLIP], now=FLIP + 6) is Lifeline.AWAITED


def test_a_failure_after_the_flip_is_lost_when_the_time_is_over() -> None:
    assert lifeline_of(ROLLOUT, FAILED_AFTER, [FLIP], now=FLIP + 29.9) is Lifeline.AWAITED
    assert lifeline_of(ROLLOUT, FAILED_AFTER, [FLIP], now=FLIP + 30.0) is Lifeline.LOST


def test_a_fetch_that_the_flip_broke_off_is_laid_on_it() -> None:
    broken = fetched(BEFORE, began=FLIP - 5, ended_at=FLIP + 5, answered=False)
    assert lifeline_of(ROLLOUT, broken, [FLIP], now=FLIP + 30) is Lifeline.LOST


def test_a_failure_before_the_publication_is_never_laid_on_the_flip() -> None:
    already = fetched(BEFORE, began=995.0, ended_at=999.0, answered=False)
    assert lifeline_of(ROLLOUT, already, [FLIP], now=9000.0) is Lifeline.AWAITED


def test_a_node_that_flips_in_the_middle_of_an_outage_has_not_caused_it() -> None:
    proven = fetched(BEFORE, began=FLIP + 1, ended_at=FLIP + 2, answered=True)
    outage = fetched(proven, began=2000.0, ended_at=2010.0, answered=False)
    late = 2010.0 + CONFIRM + 1
    assert lifeline_of(ROLLOUT, outage, [FLIP, late], now=9000.0) is Lifeline.AWAITED
    soon = 2010.0 + CONFIRM - 1  # it may have flipped before Git failed, and been heard of late
    assert lifeline_of(ROLLOUT, outage, [FLIP, soon], now=9000.0) is Lifeline.LOST


def test_without_a_fetch_that_failed_nothing_is_lost() -> None:
    """A reconciler that just started, or is busy, has not asked Git yet."""
    assert lifeline_of(ROLLOUT, Contact(), [FLIP], now=9000.0) is Lifeline.AWAITED


@pytest.mark.parametrize(
    "rollout",
    [
        replace(ROLLOUT, phase=Phase.SHADOW, stage=0),
        replace(ROLLOUT, phase=Phase.PAUSED, stage=0),
    ],
)
def test_a_shadow_cuts_nothing_but_waits_for_git_before_it_goes_on(rollout: Rollout) -> None:
    assert lifeline_of(rollout, FAILED_AFTER, [FLIP], now=9000.0) is Lifeline.AWAITED
    assert lifeline_of(rollout, BEFORE, [FLIP], now=9000.0) is Lifeline.OPEN
    assert not fetch_is_due(rollout, BEFORE, [FLIP], now=FLIP)


@pytest.mark.parametrize(
    "rollout",
    [
        replace(ROLLOUT, plan=replace(ROLLOUT.plan, confirm_seconds=0)),
        replace(ROLLOUT, plan=DIRECT, phase=Phase.PUBLISHED),
        replace(ROLLOUT, phase=Phase.ROLLED_BACK),
    ],
)
def test_where_nobody_asks_for_proof_none_is_needed(rollout: Rollout) -> None:
    assert lifeline_of(rollout, FAILED_AFTER, [FLIP], now=9000.0) is Lifeline.OPEN


def test_git_is_asked_at_once_and_then_a_few_times() -> None:
    assert fetch_is_due(ROLLOUT, BEFORE, [FLIP], now=FLIP)
    pause = CONFIRM / TRIES
    assert not fetch_is_due(ROLLOUT, FAILED_AFTER, [FLIP], now=1003.0 + pause - 0.1)
    assert fetch_is_due(ROLLOUT, FAILED_AFTER, [FLIP], now=1003.0 + pause)
    assert not fetch_is_due(ROLLOUT, FAILED_AFTER, [FLIP], now=FLIP + CONFIRM)
    proven = fetched(BEFORE, began=FLIP + 1, ended_at=FLIP + 2, answered=True)
    assert not fetch_is_due(ROLLOUT, proven, [FLIP], now=FLIP + 10)


@pytest.mark.parametrize("phase", [Phase.CANARY, Phase.INCONCLUSIVE, Phase.PAUSED, Phase.PUBLISHED])
@pytest.mark.parametrize("answer", list(Answer))
def test_a_lost_way_takes_the_revision_back(phase: Phase, answer: Answer) -> None:
    event = due(
        replace(ROLLOUT, phase=phase),
        Verdict(answer=answer),
        fleet_enforces=True,
        lifeline=Lifeline.LOST,
        now=1001.0,
    )
    assert isinstance(event, LifelineLost)


@pytest.mark.parametrize(
    ("phase", "forward"), [(Phase.CANARY, StagePassed), (Phase.PUBLISHED, FleetAcked)]
)
def test_nothing_goes_on_before_git_answered(phase: Phase, forward: type) -> None:
    def event(lifeline: Lifeline) -> object:
        rollout, passed = replace(ROLLOUT, phase=phase), Verdict(answer=Answer.PASS)
        return due(rollout, passed, fleet_enforces=True, lifeline=lifeline, now=9000.0)

    assert event(Lifeline.AWAITED) is None
    assert isinstance(event(Lifeline.OPEN), forward)
