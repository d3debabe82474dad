"""Commit-confirm: every trial ends, and what was taken back stays away."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.proof import Proof
from nodeagent.rollout.confirm import (
    NEXT,
    Begun,
    Command,
    Confirmed,
    Failed,
    Lost,
    Resumed,
    Stage,
    Superseded,
    Ticked,
    Trial,
    Unchanged,
    is_refused,
    step,
)

CONFIRM = 30


class Node(RuleBasedStateMachine):
    """An agent as the reconciler, time and crashes treat it. Invariants hold after each event."""

    def __init__(self) -> None:
        super().__init__()
        self.trial = Trial()
        self.now = 1000.0
        self.latest = 0
        self.in_force = 0
        self.confirmed = 0
        self.unseen = 0.0

    def fold(self, event: object) -> Command | None:
        self.trial, command = step(self.trial, event, now=self.now)  # type: ignore[arg-type]
        if command is Command.TAKE_BACK:
            self.in_force = self.confirmed
        elif command is Command.KEEP:
            self.confirmed = self.in_force
        return command

    @rule(skips=st.integers(1, 3), outcome=st.sampled_from(["flip", "same", "fails"]))
    def a_newer_publication_comes(self, skips: int, outcome: str) -> None:
        if self.trial.stage is Stage.AWAITING:
            self.fold(Confirmed(sequence=self.trial.sequence))
        self.latest += skips
        before = self.in_force
        self.fold(Begun(sequence=self.latest, confirm_seconds=CONFIRM))
        self.in_force, self.unseen = self.latest, 0.0
        if outcome == "same":
            assert self.fold(Unchanged(sequence=self.latest)) is Command.KEEP
        elif outcome == "fails":
            self.in_force = before
            self.fold(Failed(sequence=self.latest))

    @rule(skips=st.integers(1, 3))
    def one_comes_that_needs_no_confirmation(self, skips: int) -> None:
        if self.trial.stage is Stage.AWAITING:
            self.fold(Confirmed(sequence=self.trial.sequence))
        self.latest += skips
        self.in_force = self.confirmed = self.latest
        self.fold(Superseded(sequence=self.latest))
        assert self.trial.stage is Stage.SETTLED

    @rule(behind=st.integers(0, 3))
    def an_old_publication_is_announced_again(self, behind: int) -> None:
        if self.trial.stage is Stage.REVERTED and behind < self.latest:
            before = self.trial
            self.fold(Begun(sequence=self.trial.taken_back - behind, confirm_seconds=CONFIRM))
            assert self.trial == before

    @rule(off=st.integers(-1, 1))
    def a_confirmation_comes(self, off: int) -> None:
        awaited = self.trial.stage is Stage.AWAITING
        command = self.fold(Confirmed(sequence=self.trial.sequence + off))
        assert (command is Command.KEEP) == (awaited and off == 0)

    @rule(seconds=st.floats(0, 40))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds
        self.unseen += seconds
        self.fold(Ticked())

    @rule()
    def the_agent_restarts(self) -> None:
        if self.trial.stage is Stage.AWAITING:
            enforced = self.in_force == self.trial.sequence
            self.fold(Resumed() if enforced else Lost())

    @rule()
    def the_clock_begins_anew(self) -> None:
        self.now = 0.0
        self.the_agent_restarts()

    @invariant()
    def no_trial_outlives_its_time(self) -> None:
        if self.trial.stage is Stage.AWAITING:
            assert self.now <= self.trial.deadline <= self.now + CONFIRM

    @invariant()
    def what_is_in_force_is_confirmed_or_on_trial(self) -> None:
        if self.trial.stage is Stage.REVERTED:
            assert self.in_force == self.confirmed
            assert is_refused(self.trial, self.trial.sequence)

    @invariant()
    def what_was_taken_back_is_not_in_force(self) -> None:
        if self.trial.taken_back:
            assert self.in_force != self.trial.taken_back


TestNode = Node.TestCase
TestNode.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_every_pair_of_the_table_is_reached_by_some_event() -> None:
    events = {
        Begun: Begun(sequence=9, confirm_seconds=CONFIRM),
        Unchanged: Unchanged(sequence=5),
        Failed: Failed(sequence=5),
        Confirmed: Confirmed(sequence=5),
        Superseded: Superseded(sequence=5),
        Ticked: Ticked(),
        Resumed: Resumed(),
        Lost: Lost(),
    }
    for (stage, kind), after in NEXT.items():
        trial = Trial(stage=stage, sequence=5, deadline=50.0, confirm_seconds=CONFIRM, taken_back=2)
        moved, _ = step(trial, events[kind], now=60.0 if kind is Ticked else 40.0)
        assert moved.stage is after


def test_only_a_confirmation_of_an_answer_after_the_flip_proves_anything() -> None:
    proof = Proof().after(push_pb2.Ack(sequence=1), is_taken=False)
    assert not proof.is_given_by(1)
    proof = proof.after(push_pb2.Ack(sequence=2), is_taken=True)
    assert not proof.is_given_by(1)
    assert proof.is_given_by(2)
    proof = proof.after(push_pb2.Ack(sequence=2), is_taken=True)
    assert proof.is_given_by(2)
    assert not proof.is_given_by(4)
    assert not proof.is_given_by(0)
    assert proof.sequence == 2
