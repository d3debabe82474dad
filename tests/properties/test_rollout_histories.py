"""Whatever happens to rollouts, in whatever order, and whenever the program dies: what must hold, holds.

The real driver and table run over a simulated disk that may die at any write. TIDEGATE_ROLLOUT_EXAMPLES
makes the walk longer.
"""

from __future__ import annotations

import os
import random
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from netpolicy.errors import StalledError
from reconciler.rollout.gates import Answer, Verdict
from reconciler.rollout.lifeline import Lifeline
from reconciler.rollout.machine import HALTED, STAGES, TAKEN_BACK, Phase, Rollout
from reconciler.rollout.plan import (
    DIRECT,
    DeletionBudget,
    Expiry,
    Gates,
    Plan,
    Promotion,
    Stage,
    StageKind,
)
from reconciler.rollout.wanted import wanted
from reconciler.rollout.windows import Window
from reconciler.staging.interfaces import Action, Request, Revision
from tests.support.rollout_model import CrashError, Disk, Signed, restarted

EXAMPLES: Final = int(os.environ.get("TIDEGATE_ROLLOUT_EXAMPLES", "45"))
BATCHES: Final = 50
STEPS_OF_A_BATCH: Final = 50
LEAST_STEPS: Final = 100_000

SHADOW = Stage(kind=StageKind.SHADOW, soak_seconds=5)
CANARY = Stage(kind=StageKind.CANARY, soak_seconds=5, labels=(("canary", "true"),))
WAVE = Stage(kind=StageKind.WAVE, soak_seconds=5, percent=50.0)
PLANS = (
    DIRECT,
    Plan(stages=(SHADOW,)),
    Plan(stages=(SHADOW, CANARY, WAVE), inconclusive_seconds=20, pause_seconds=30),
    Plan(stages=(SHADOW, CANARY), promotion=Promotion.MANUAL, pause_then=Expiry.RESUME),
    Plan(stages=(SHADOW, WAVE), deletion_budget=DeletionBudget(count=0)),
    Plan(stages=(SHADOW,), windows=(Window(start=0, end=1),), gates=Gates(minimum_flows=9)),
)


class Histories(RuleBasedStateMachine):
    """One reconciler's life."""

    steps_taken = 0

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.commits: list[Revision] = []
        self.digests: dict[str, str] = {}
        self.head = -1
        self.taken_back: set[str] = set()
        self.seen_publications = 0
        self.seen_entries = 0
        self.disk = Disk()
        self.restart()

    def restart(self) -> None:
        self.store, self.publisher, self.rollouts = restarted(self.disk, self.digests)

    @rule(seed=st.integers(0, 2**32))
    def fifty_steps(self, seed: int) -> None:
        chance = random.Random(seed)
        with capture_logs():
            for _ in range(STEPS_OF_A_BATCH):
                self.one_step(chance)
        type(self).steps_taken += STEPS_OF_A_BATCH

    def one_step(self, chance: random.Random) -> None:
        self.now += chance.choice((0, 0.5, 6, 40))
        kinds = (self.commit, self.poll, self.look, self.look, self.look, self.ask, self.misfortune)
        before = self.rollouts.rollout
        stable = self.rollouts.stable
        try:
            chance.choice(kinds)(chance)
        except CrashError:
            self.restart()
        except StalledError:
            pass
        self.check_disk(before, stable)
        if chance.random() < 0.2:
            self.check_that_it_settles()

    def commit(self, chance: random.Random) -> None:
        number = len(self.commits)
        revision, digest = f"{number:040x}", f"{chance.randrange(6):064x}"
        self.digests[revision] = digest
        plan = chance.choice(PLANS)
        self.commits.append(Revision(revision=revision, digest=digest, units={}, own_plan=plan))
        self.head = number
        self.poll(chance)

    def poll(self, chance: random.Random) -> None:
        """Git is read: mostly the newest commit; after a forced push, any."""
        if chance.random() < 0.05 and self.commits:
            self.head = chance.randrange(len(self.commits))
        if self.head >= 0 and self.publisher.may_advance:
            self.rollouts.begin(self.commits[self.head], now=self.now)

    def look(self, chance: random.Random) -> None:
        verdict = Verdict(answer=chance.choice(tuple(Answer)), reasons=("seen",))
        before = self.rollouts.rollout
        enforces = chance.random() < 0.5
        lifeline = chance.choice((*[Lifeline.OPEN] * 3, Lifeline.AWAITED, Lifeline.LOST))
        since = self.seen_entries
        try:
            self.rollouts.look(verdict, fleet_enforces=enforces, lifeline=lifeline, now=self.now)
        finally:
            events = {entry.event for entry in self.disk.entries[since:]}
            may_pass = verdict.answer is Answer.PASS and lifeline is Lifeline.OPEN
            assert "StagePassed" not in events or may_pass
        self.check_failure(before, verdict, lifeline)
        if lifeline is not Lifeline.LOST:
            self.check_expired_pause(before, verdict)

    def check_failure(self, before: Rollout | None, verdict: Verdict, lifeline: Lifeline) -> None:
        """A failed gate or a lost way to Git takes the revision back, from wherever it stands."""
        judged = STAGES | HALTED
        is_lost = lifeline is Lifeline.LOST
        if before is None or not (is_lost or verdict.answer is Answer.FAIL):
            return
        if before.phase not in (judged | {Phase.PUBLISHED} if is_lost else judged):
            return
        if before.phase is Phase.PUBLISHED and not before.stable:
            return
        after = self.rollouts.rollout
        assert after is not None
        assert (after.revision, after.phase) == (before.revision, Phase.ROLLED_BACK)
        standing = self.publisher.standing
        assert standing is not None
        assert (standing.stable, standing.candidate) == (before.stable, "")

    def check_expired_pause(self, before: Rollout | None, verdict: Verdict) -> None:
        after = self.rollouts.rollout
        if before is None or before.phase is not Phase.PAUSED or verdict.answer is Answer.FAIL:
            return
        if not before.sequence:
            return  # its time begins when it is published, which a death has kept back so far
        assert after is not None
        if self.now - before.since < before.plan.pause_seconds:
            assert after.phase is Phase.PAUSED
        elif before.plan.pause_then is Expiry.ABORT:
            assert after.phase is Phase.ABORTED
        else:
            assert (after.phase in STAGES, after.stage) == (True, before.stage)

    def ask(self, chance: random.Random) -> None:
        rollout = self.rollouts.rollout
        action = chance.choice(tuple(Action))
        known = [rollout.revision if rollout else "", self.rollouts.stable]
        known += [commit.revision for commit in self.commits[-3:]]
        to = ""
        if action is Action.ROLLBACK:
            to = chance.choice(("", *known))
        revision = chance.choice(known)
        request = Request(action=action, revision=revision, token=str(self.now), to=to)
        self.rollouts.ask(request, now=self.now)

    def misfortune(self, chance: random.Random) -> None:
        """The next write dies, the keys or the API server go or come back, or the program ends now."""
        kind = chance.randrange(6)
        if kind == 0:
            self.store.crash = chance.choice(("before", "after"))
        elif kind == 1:
            self.publisher.fails = not self.publisher.fails
        elif kind <= 3:
            self.publisher.is_cut_off = not self.publisher.is_cut_off
        else:
            self.restart()

    def check_disk(self, before: Rollout | None, stable: str) -> None:
        """What is stored may be stored so."""
        for entry in self.disk.entries[self.seen_entries :]:
            if entry.event == "Undo":
                rolled = self.disk.rollouts[entry.revision]
                self.taken_back.discard(rolled.stable)
        self.seen_entries = len(self.disk.entries)
        if before is not None and before.phase is Phase.ROLLING_BACK:
            assert self.disk.rollouts[before.revision].phase in TAKEN_BACK | {Phase.PROMOTED}
        for publication in self.disk.publications[self.seen_publications :]:
            self.check_publication(publication, stable)
            stable = publication.what.stable
        self.seen_publications = len(self.disk.publications)
        self.taken_back |= {
            name for name, one in self.disk.rollouts.items() if one.phase in TAKEN_BACK
        }

    def check_publication(self, publication: Signed, stable: str) -> None:
        what = publication.what
        assert what.candidate not in self.taken_back
        assert what.stable not in self.taken_back
        earlier = self.disk.publications[: publication.sequence - 1]
        was_enforced = what.stable in {one.what.stable for one in earlier}
        assert not publication.is_cut_off or (was_enforced and not what.candidate)
        if what.stable == stable:
            return
        cause = publication.cause
        assert cause is not None
        if cause.phase is Phase.PUBLISHED:
            assert cause.revision == what.stable
            return
        assert cause.phase in (Phase.ROLLED_BACK, Phase.ABORTED)
        assert was_enforced

    def check_that_it_settles(self) -> None:
        """With nothing in the way, what is published is what the phase calls for."""
        self.store.crash, self.publisher.fails, self.publisher.is_cut_off = "", False, False
        rollout = self.rollouts.rollout
        if rollout is None or not self.publisher.has_units(rollout.revision):
            return  # in memory only, and lost: Git has to bring it again
        self.rollouts.perform(now=self.now)
        rollout = self.rollouts.rollout
        assert rollout is not None
        if rollout.phase not in (Phase.SUPERSEDED, Phase.REJECTED):
            assert self.publisher.standing == wanted(rollout)
        self.check_disk(None, self.rollouts.stable)


@pytest.mark.slow
@pytest.mark.timeout(30 * EXAMPLES)
def test_a_hundred_thousand_steps_with_deaths_at_any_write() -> None:
    Histories.steps_taken = 0
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=BATCHES,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert Histories.steps_taken >= LEAST_STEPS
