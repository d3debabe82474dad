"""The rollout's table: what each event does in each phase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.rollout.machine import (
    FINAL,
    NEXT,
    Accepted,
    Command,
    Event,
    FleetAcked,
    Phase,
    Refused,
    Rollout,
    Signed,
    Superseded,
    step,
)

REVISION = "a" * 40
EVENTS: dict[type[Event], Event] = {
    Accepted: Accepted(revision=REVISION),
    Refused: Refused(revision=REVISION),
    Signed: Signed(revision=REVISION, sequence=7),
    FleetAcked: FleetAcked(revision=REVISION),
    Superseded: Superseded(revision=REVISION),
}


def test_an_accepted_revision_is_signed_then_announced_then_promoted() -> None:
    rollout = Rollout(revision=REVISION)
    rollout, commands = step(rollout, Accepted(revision=REVISION), now=1.0)
    assert (rollout.phase, commands) == (Phase.VALIDATED, (Command.SIGN,))
    rollout, commands = step(rollout, Signed(revision=REVISION, sequence=7), now=2.0)
    assert (rollout.phase, rollout.sequence, commands) == (
        Phase.PUBLISHED,
        7,
        (Command.ANNOUNCE,),
    )
    rollout, commands = step(rollout, FleetAcked(revision=REVISION), now=3.0)
    assert (rollout.phase, rollout.since, commands) == (Phase.PROMOTED, 3.0, ())


def test_a_refused_revision_calls_for_nothing() -> None:
    rollout, commands = step(Rollout(revision=REVISION), Refused(revision=REVISION), now=1.0)
    assert (rollout.phase, commands) == (Phase.REJECTED, ())


def test_an_event_of_another_revision_changes_nothing() -> None:
    rollout = Rollout(revision=REVISION, phase=Phase.PUBLISHED)
    assert step(rollout, FleetAcked(revision="b" * 40), now=1.0) == (rollout, ())


@pytest.mark.parametrize("phase", sorted(FINAL))
@pytest.mark.parametrize("event", EVENTS.values(), ids=lambda e: type(e).__name__)
def test_a_final_phase_is_never_left(phase: Phase, event: Event) -> None:
    rollout = Rollout(revision=REVISION, phase=phase)
    assert step(rollout, event, now=1.0) == (rollout, ())


@given(st.lists(st.sampled_from(sorted(NEXT, key=str)), max_size=12))
def test_nothing_is_announced_before_it_was_signed(choices: list[tuple[Phase, type]]) -> None:
    rollout, signed = Rollout(revision=REVISION), False
    for phase, kind in choices:
        if phase is not rollout.phase:
            continue
        rollout, commands = step(rollout, EVENTS[kind], now=0.0)
        signed = signed or kind is Signed
        assert Command.ANNOUNCE not in commands or signed
