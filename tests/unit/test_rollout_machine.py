"""The rollout's table: what each event does in each phase."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.rollout.events import (
    Abort,
    Accepted,
    Approve,
    Cleared,
    Event,
    EvidenceMissing,
    FleetAcked,
    GateFailed,
    Held,
    Pause,
    Promote,
    Published,
    Refused,
    Restored,
    Resume,
    StagePassed,
    Superseded,
    Undo,
    WaitedEnough,
)
from reconciler.rollout.machine import (
    HALTED,
    NEXT,
    OVER,
    STAGES,
    TAKEN_BACK,
    Command,
    Phase,
    Rollout,
    allows,
    step,
)
from reconciler.rollout.plan import Plan, Stage, StageKind
from reconciler.rollout.wanted import wanted

REVISION, STABLE = "a" * 40, "b" * 40
PLAN = Plan(
    stages=(
        Stage(kind=StageKind.SHADOW, soak_seconds=10),
        Stage(kind=StageKind.CANARY, soak_seconds=10, labels=(("canary", "true"),)),
        Stage(kind=StageKind.WAVE, soak_seconds=10, percent=50.0),
    )
)
EVENTS: dict[type[Event], Event] = {
    **{
        kind: kind(revision=REVISION)
        for kind in (
            Accepted, Refused, Held, Cleared, StagePassed, GateFailed, EvidenceMissing, WaitedEnough,
            FleetAcked, Superseded, Approve, Promote, Pause, Resume, Abort, Restored,
        )
    },
    Published: Published(revision=REVISION, sequence=7),
    Undo: Undo(revision=REVISION, to=STABLE),
}  # fmt: skip


def walk(*kinds: type[Event], rollout: Rollout | None = None) -> Rollout:
    at = rollout or Rollout(revision=REVISION)
    for now, kind in enumerate(kinds):
        event = EVENTS[kind]
        if kind is Accepted:
            event = Accepted(revision=REVISION, stable=STABLE, plan=PLAN)
        at, _ = step(at, event, now=float(now))
    return at


def at_phase(phase: Phase) -> Rollout:
    plan = Rollout(revision=REVISION, stable=STABLE, plan=PLAN, stage=1, sequence=5)
    return replace(plan, phase=phase)


def test_a_revision_goes_through_every_stage_of_its_plan() -> None:
    rollout = walk(Accepted, Cleared)
    seen = [rollout.phase]
    while rollout.phase is not Phase.PUBLISHED:
        rollout = walk(Published, StagePassed, rollout=rollout)
        seen.append(rollout.phase)
    assert seen == [Phase.SHADOW, Phase.CANARY, Phase.WAVE, Phase.PUBLISHED]
    assert walk(Published, FleetAcked, rollout=rollout).phase is Phase.PROMOTED


def test_a_plan_without_stages_promotes_at_once() -> None:
    rollout, _ = step(Rollout(revision=REVISION), Accepted(revision=REVISION), now=1.0)
    rollout, commands = step(rollout, Cleared(revision=REVISION), now=2.0)
    assert (rollout.phase, rollout.since, commands) == (Phase.PUBLISHED, 2.0, (Command.PUBLISH,))


def test_a_refused_revision_calls_for_nothing() -> None:
    rollout, commands = step(Rollout(revision=REVISION), Refused(revision=REVISION), now=1.0)
    assert (rollout.phase, commands) == (Phase.REJECTED, ())


@pytest.mark.parametrize("phase", sorted(STAGES | HALTED))
def test_a_failed_gate_takes_back_from_every_stage_and_halt(phase: Phase) -> None:
    moved, commands = step(at_phase(phase), GateFailed(revision=REVISION, reason="why"), now=1.0)
    assert (moved.phase, moved.reason, commands) == (
        Phase.ROLLING_BACK,
        "why",
        (Command.PUBLISH,),
    )
    assert wanted(moved).stable == STABLE
    assert not wanted(moved).candidate
    done = walk(Published, rollout=moved)
    assert (done.phase, done.reason, done.sequence) == (Phase.ROLLED_BACK, "why", 7)


def test_a_resumed_rollout_stands_where_it_was_halted_and_soaks_anew() -> None:
    paused = walk(Accepted, Cleared, Published, StagePassed, Published, Pause)
    assert paused.phase is Phase.PAUSED
    resumed = walk(Resume, rollout=paused)
    assert (resumed.phase, resumed.stage, resumed.sequence) == (Phase.CANARY, 1, 0)


def test_a_halt_changes_nothing_of_what_is_published() -> None:
    stage = at_phase(Phase.CANARY)
    for event in (Pause, EvidenceMissing):
        halted, _ = step(stage, EVENTS[event], now=1.0)
        assert wanted(halted) == wanted(stage)


def test_a_stage_does_not_count_before_it_is_published() -> None:
    rollout = walk(Accepted, Cleared, Published, StagePassed)
    assert (rollout.phase, rollout.sequence) == (Phase.CANARY, 0)


def test_an_event_of_another_revision_changes_nothing() -> None:
    rollout = at_phase(Phase.CANARY)
    assert step(rollout, GateFailed(revision="c" * 40), now=1.0) == (rollout, ())


@pytest.mark.parametrize("phase", sorted(OVER))
def test_what_is_over_moves_only_if_somebody_undoes_or_goes_back(phase: Phase) -> None:
    rollout = at_phase(phase)
    moving = {kind for kind, event in EVENTS.items() if step(rollout, event, now=1.0)[0] != rollout}
    cuts_nodes_off = {GateFailed} if phase is Phase.PROMOTED else set()
    assert moving <= {Undo, Restored} | cuts_nodes_off


def test_what_was_taken_back_never_becomes_a_candidate_or_stable_by_itself() -> None:
    reached = set(TAKEN_BACK)
    by_itself = {kind for kind in EVENTS if kind not in (Undo, Restored)}
    for _ in Phase:
        reached |= {
            target
            for (phase, kind), target in NEXT.items()
            if phase in reached and kind in by_itself and isinstance(target, Phase)
        }
    assert reached == TAKEN_BACK


def test_the_first_revision_ever_cannot_be_aborted() -> None:
    assert not allows(replace(at_phase(Phase.PUBLISHED), stable=""), Abort)
    assert allows(at_phase(Phase.PUBLISHED), Abort)
