"""Two leaders never fight: whoever leads, is cut off, wakes or comes back, and in whatever order.

The real election and numbers; agents by their rule: a lower number than the one they hold is refused.
What a leader that is cut off may publish is walked through in `test_rollout_histories`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from netpolicy.errors import TransientError
from reconciler.cluster import lease
from reconciler.cluster.lease import Election, LeaseRecord, least_number

REPLICAS, AGENTS = 3, 3
HISTORIES, STEPS = 60, 600
NEW, BACK = "new", "back"


@dataclass(frozen=True)
class Published:
    """A publication, by whom it was made in which term, and whether that was certain to last."""

    number: int
    revision: int
    token: int
    is_certain: bool


@dataclass
class Replica:
    """One that leads sometimes, what it announced, and what it knows to have been enforced."""

    election: Election
    last: Published | None = None
    token: int = 0
    enforced: list[int] = field(default_factory=list)


@dataclass
class World:
    """One Lease, some replicas that may not reach it, and agents that hang on any of them."""

    replicas: list[Replica] = field(
        default_factory=lambda: [Replica(Election(f"r{n}")) for n in range(REPLICAS)]
    )
    lease: LeaseRecord = field(default_factory=LeaseRecord)
    now: float = 1000.0
    revisions: int = 0
    promoted: set[int] = field(default_factory=set)
    published: list[Published] = field(default_factory=list)
    taken: list[list[Published]] = field(default_factory=lambda: [[] for _ in range(AGENTS)])

    def look(self, which: int, *, is_lost: bool) -> None:
        """One round of a replica over the Lease; perhaps the answer is lost."""
        one = self.replicas[which].election
        one.see(self.lease, now=self.now)
        used = self.replicas[which].last
        claim = one.claim(used=used.number if used else 0, renewed_at=str(self.now), now=self.now)
        if claim is None:
            return
        self.lease = replace(claim, version=str(int(self.lease.version or 0) + 1))
        if not is_lost:
            one.wrote(self.lease, before=self.now, now=self.now)

    def publish(self, which: int, wish: str) -> None:
        """A replica publishes a new revision, or goes back to an earlier one, if it may."""
        replica = self.replicas[which]
        term, certain = replica.election.last_term, replica.election.term(now=self.now)
        if term is not None and term.token != replica.token:
            # Its state is another term's: it begins with what the objects call enforced.
            replica.token, replica.last = term.token, None
            replica.enforced = sorted(self.promoted)
        announced = replica.last.number if replica.last else 0
        is_certain = certain is not None
        if (wish == NEW and not is_certain) or (wish == BACK and not replica.enforced):
            return
        try:
            number = least_number(term, announced=announced, held=0, is_certain=is_certain)
        except TransientError:
            return
        if wish == NEW:
            self.revisions += 1
            self.promoted.add(self.revisions)
            replica.enforced.append(self.revisions)
        revision = replica.enforced[-1] if wish == NEW else replica.enforced[0]
        replica.last = Published(number, revision, replica.token, is_certain)
        self.published.append(replica.last)

    def dial(self, agent: int, which: int) -> None:
        """An agent hears what a replica announced last, and takes it or does not."""
        offered, held = self.replicas[which].last, self.taken[agent]
        if offered is not None and (not held or offered.number > held[-1].number):
            held.append(offered)


def live(chance: random.Random) -> World:
    """One history: long terms, terms that are taken while their leader sleeps, numbers that run out."""
    world = World()
    away: set[int] = set()
    for step in range(STEPS):
        which = chance.randrange(REPLICAS)
        if step % 40 == 0:
            away = {chance.randrange(REPLICAS) for _ in range(2)}
        match chance.choice(("look", "look", "look", "publish", "dial", "dial")):
            case "look":
                world.now += chance.choice((0.5, 1, 3))
                if which not in away:
                    world.look(which, is_lost=chance.random() < 0.1)
            case "publish":
                world.publish(which, chance.choice((NEW, BACK)))
            case "dial":
                world.dial(chance.randrange(AGENTS), which)
    return world


def test_an_agent_never_goes_from_a_later_term_back_to_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease, "TERM_SEQUENCES", 4)  # so few that terms run out of them
    changes = 0
    for seed in range(HISTORIES):
        world = live(random.Random(seed))
        numbers = [one.number for one in world.published]
        assert len(numbers) == len(set(numbers)), "a number means one thing"
        tokens = [one.token for one in sorted(world.published, key=lambda one: one.number)]
        assert tokens == sorted(tokens), "a later term's numbers are above an earlier one's"
        for taken in world.taken:
            heard = [one.token for one in taken]
            assert heard == sorted(heard)
            changes += len(set(heard)) - 1 if heard else 0
        assert all(one.is_certain or one.revision in world.promoted for one in world.published)
    assert changes > HISTORIES, "agents went from one leader to another"
