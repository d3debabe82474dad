"""When a rollout moves: soak, windows, approval, missing evidence, pauses."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from reconciler.rollout.events import (
    Abort,
    Cleared,
    EvidenceMissing,
    FleetAcked,
    GateFailed,
    Held,
    Resume,
    StagePassed,
    WaitedEnough,
)
from reconciler.rollout.gates import Answer, Verdict
from reconciler.rollout.machine import HALTED, STAGES, Phase, Rollout
from reconciler.rollout.plan import (
    DIRECT,
    DeletionBudget,
    Expiry,
    Plan,
    Promotion,
    Stage,
    StageKind,
    plan_of,
)
from reconciler.rollout.progress import due, opens_at, soak_left
from reconciler.rollout.windows import Window, is_open, next_opening

PASS, FAIL, MISSING = (Verdict(answer=answer, reasons=("why",)) for answer in Answer)
SHADOW = Stage(kind=StageKind.SHADOW, soak_seconds=60)
PLAN = Plan(stages=(SHADOW,), inconclusive_seconds=100, pause_seconds=50)
ROLLOUT = Rollout(
    revision="r", phase=Phase.SHADOW, plan=PLAN, stage=0, sequence=4, since=1000.0, stable="s"
)


def at(moment: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone)).timestamp()


def kind(rollout: Rollout, verdict: Verdict, now: float, *, enforces: bool = False) -> type | None:
    event = due(rollout, verdict, fleet_enforces=enforces, now=now)
    return type(event) if event else None


def test_a_stage_passes_after_its_soak_and_not_before() -> None:
    assert soak_left(ROLLOUT, 1020.0) == 40.0
    assert kind(ROLLOUT, PASS, 1059.9) is None
    assert kind(ROLLOUT, PASS, 1060.0) is StagePassed


def test_a_soak_begins_when_the_stage_is_published() -> None:
    unpublished = replace(ROLLOUT, sequence=0)
    assert soak_left(unpublished, 5000.0) == 60.0
    assert kind(unpublished, PASS, 5000.0) is None


@pytest.mark.parametrize("phase", sorted(STAGES | HALTED))
def test_a_failed_gate_is_due_at_once(phase: Phase) -> None:
    assert kind(replace(ROLLOUT, phase=phase), FAIL, 1000.0) is GateFailed


def test_missing_evidence_waits_and_then_stops() -> None:
    assert kind(ROLLOUT, MISSING, 1030.0) is None
    assert kind(ROLLOUT, MISSING, 1060.0) is EvidenceMissing
    halted = replace(ROLLOUT, phase=Phase.INCONCLUSIVE)
    assert kind(halted, MISSING, 1099.0) is None
    assert kind(halted, PASS, 1099.0) is StagePassed
    assert kind(halted, MISSING, 1100.0) is WaitedEnough


def test_a_manual_rollout_waits_for_somebody_even_with_late_evidence() -> None:
    manual = replace(ROLLOUT, plan=replace(PLAN, promotion=Promotion.MANUAL))
    assert kind(manual, PASS, 9000.0) is None
    assert kind(replace(manual, phase=Phase.INCONCLUSIVE), PASS, 9000.0) is None
    assert kind(manual, FAIL, 1000.0) is GateFailed


def test_a_pause_that_nobody_ends_ends_as_the_plan_says() -> None:
    paused = replace(ROLLOUT, phase=Phase.PAUSED)
    assert kind(paused, PASS, 1049.0) is None
    assert kind(paused, PASS, 1050.0) is Abort
    resuming = replace(paused, plan=replace(PLAN, pause_then=Expiry.RESUME))
    assert kind(resuming, MISSING, 1050.0) is Resume


def test_outside_the_windows_nothing_begins_or_moves_on_but_failures_do() -> None:
    office = Window(days=(0, 1, 2, 3, 4), start=9 * 60, end=17 * 60, timezone="Europe/Berlin")
    plan = replace(PLAN, windows=(office,))
    friday, sunday = at("2026-03-06T12:00", "Europe/Berlin"), at("2026-03-08T12:00")
    waiting = replace(ROLLOUT, phase=Phase.WAITING, plan=plan, since=friday - 1000)
    assert (kind(waiting, MISSING, friday), kind(waiting, MISSING, sunday)) == (Cleared, None)
    validated = replace(waiting, phase=Phase.VALIDATED)
    assert (kind(validated, MISSING, friday), kind(validated, MISSING, sunday)) == (Cleared, Held)
    soaked = replace(ROLLOUT, plan=plan, since=friday - 1000)
    assert (kind(soaked, PASS, friday), kind(soaked, PASS, sunday)) == (StagePassed, None)
    assert kind(soaked, FAIL, sunday) is GateFailed


def test_a_window_follows_the_clock_of_its_place_over_a_change_of_hours() -> None:
    nine_to_ten = Window(start=9 * 60, end=10 * 60, timezone="Europe/Berlin")
    assert nine_to_ten.contains(at("2026-03-28T08:30"))  # UTC+1
    assert nine_to_ten.contains(at("2026-03-29T07:30"))  # UTC+2 from this morning on
    assert not nine_to_ten.contains(at("2026-03-29T08:30"))


def test_what_waits_for_a_window_knows_when_it_opens() -> None:
    office = Window(days=(0, 1, 2, 3), start=9 * 60, end=17 * 60, timezone="Europe/Berlin")
    sunday = at("2026-03-08T12:00")
    waiting = replace(ROLLOUT, phase=Phase.WAITING, plan=replace(PLAN, windows=(office,)))
    assert opens_at(waiting, sunday) == at("2026-03-09T09:00", "Europe/Berlin")
    assert opens_at(replace(waiting, phase=Phase.SHADOW), sunday) is not None
    assert opens_at(waiting, at("2026-03-09T12:00")) is None
    assert opens_at(replace(waiting, needs_approval=True), sunday) is None
    assert opens_at(replace(waiting, phase=Phase.PROMOTED), sunday) is None
    change = replace(office, days=(6,))  # the clocks go forward on this Sunday
    assert next_opening((change,), at("2026-03-28T12:00")) == at("2026-03-29T07:00")
    assert next_opening((replace(office, days=()),), sunday) is None


def test_what_may_not_advance_goes_back_all_the_same() -> None:
    def event(rollout: Rollout, verdict: Verdict) -> type | None:
        found = due(rollout, verdict, fleet_enforces=False, now=9000.0, may_advance=False)
        return type(found) if found else None

    assert event(ROLLOUT, PASS) is None
    assert event(replace(ROLLOUT, phase=Phase.WAITING), PASS) is None
    assert event(ROLLOUT, FAIL) is GateFailed
    assert event(replace(ROLLOUT, phase=Phase.INCONCLUSIVE), MISSING) is WaitedEnough
    assert event(replace(ROLLOUT, phase=Phase.PAUSED), MISSING) is Abort


def test_a_window_past_midnight_belongs_to_the_day_it_begins_on() -> None:
    friday_night = Window(days=(4,), start=22 * 60, end=4 * 60)
    assert friday_night.contains(at("2026-03-06T23:00"))
    assert friday_night.contains(at("2026-03-07T03:59"))
    assert not friday_night.contains(at("2026-03-07T04:00"))
    assert not friday_night.contains(at("2026-03-06T03:00"))
    assert is_open((), at("2026-03-06T03:00"))


def test_what_needs_approval_waits_for_it() -> None:
    waiting = replace(ROLLOUT, phase=Phase.WAITING, needs_approval=True)
    assert kind(waiting, PASS, 9000.0) is None
    assert kind(replace(waiting, needs_approval=False), PASS, 9000.0) is Cleared


def test_a_promotion_ends_when_the_fleet_enforces_what_was_published() -> None:
    published = replace(ROLLOUT, phase=Phase.PUBLISHED)
    assert kind(published, MISSING, 1.0, enforces=True) is FleetAcked
    assert kind(replace(published, sequence=0), MISSING, 1.0, enforces=True) is None
    assert kind(published, FAIL, 1.0, enforces=True) is GateFailed
    assert kind(replace(published, plan=DIRECT), FAIL, 1.0) is None


def test_a_budget_is_a_number_or_a_share() -> None:
    assert DeletionBudget(count=2).allows(2, of=3)
    assert not DeletionBudget(count=2).allows(3, of=1000)
    assert DeletionBudget(percent=10).allows(10, of=100)
    assert not DeletionBudget(percent=10).allows(11, of=100)
    assert DeletionBudget().allows(5, of=5)


def test_no_revision_loosens_the_gates_it_must_itself_pass() -> None:
    strict, loose = PLAN, replace(PLAN, stages=())
    assert plan_of(in_force=strict, own=loose) == strict
    assert plan_of(in_force=DIRECT, own=strict) == strict
