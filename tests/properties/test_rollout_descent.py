"""Never backwards: over ten thousand random histories only descendants begin a rollout by themselves."""

from __future__ import annotations

import random
from typing import Final

import pytest
from structlog.testing import capture_logs

from reconciler.rollout.descent import may_follow
from reconciler.rollout.gates import Answer, Verdict
from reconciler.rollout.plan import Plan, Stage, StageKind
from reconciler.staging.interfaces import Action, Request, Revision
from tests.support.rollout_model import Disk, restarted

HISTORIES: Final = 10_000
EVENTS: Final = 14
STAGED = Plan(stages=(Stage(kind=StageKind.SHADOW, soak_seconds=0),))


class Repository:
    """A branch that people commit to and force about; `ancestors` holds each commit's whole past."""

    def __init__(self) -> None:
        self.ancestors: list[frozenset[int]] = []
        self.tip = self.commit_on(frozenset())

    def commit_on(self, past: frozenset[int]) -> int:
        self.ancestors.append(past)
        return len(self.ancestors) - 1

    def commit(self) -> None:
        self.tip = self.commit_on(self.ancestors[self.tip] | {self.tip})

    def descends(self, commit: int, of: int) -> bool:
        return of in self.ancestors[commit]


def name(commit: int) -> str:
    return f"{commit:040x}"


def play(seed: int) -> int:
    """One history; returns how often the rule held a commit back."""
    chance, repository, disk = random.Random(seed), Repository(), Disk()
    digests = {name(number): f"{number:064x}" for number in range(EVENTS + 2)}
    _, _, rollouts = restarted(disk, digests)
    acknowledged: set[int] = set()
    last, held_back = -1, 0
    for now in range(EVENTS):
        kind = chance.randrange(7)
        if kind <= 1:
            repository.commit()
        elif kind == 2:
            repository.tip = chance.randrange(len(repository.ancestors))
        elif kind == 3:
            acknowledged.add(chance.randrange(len(repository.ancestors)))
        elif kind == 4:
            request = Request(action=Action.ROLLBACK, revision=rollouts.stable, token=str(now))
            rollouts.ask(request, now=float(now))
        elif kind == 5:
            verdict = Verdict(answer=chance.choice(tuple(Answer)))
            rollouts.look(verdict, fleet_enforces=True, now=float(now))
        else:
            _, _, rollouts = restarted(disk, digests)
        tip = repository.tip
        brought = int(disk.brought, 16) if disk.brought else -1
        if not may_follow(
            name(tip),
            last_brought=disk.brought,
            descends=brought >= 0 and repository.descends(tip, brought),
            acknowledged=tip in acknowledged,
        ):
            held_back += 1
            continue
        begun = len(disk.entries)
        revision = Revision(
            revision=name(tip), digest=digests[name(tip)], units={}, own_plan=STAGED
        )
        rollouts.begin(revision, now=float(now))
        if any(entry.event == "Begun" for entry in disk.entries[begun:]):
            is_new = last < 0 or repository.descends(tip, last) or tip == last
            assert is_new or tip in acknowledged, f"history {seed} went backwards"
        last = tip
    return held_back


@pytest.mark.slow
def test_ten_thousand_histories_never_go_backwards_by_themselves() -> None:
    with capture_logs() as logs:
        held_back = 0
        for seed in range(HISTORIES):
            held_back += play(seed)
            logs.clear()
    assert held_back > HISTORIES  # the rule had something to do
