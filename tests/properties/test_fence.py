"""Two leaders never fight: whoever leads, is cut off, wakes or comes back, and in whatever order.

The real election and numbers; agents by their rule: a lower number than the one they hold is refused.
What a leader that is cut off may publish is walked through in `test_rollout_histories`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from netpolicy.errors import TransientError
from reconciler.cluster.lease import Election, LeaseRecord, least_number

REPLICAS, AGENTS = 3, 3
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


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 20)),
        st.tuples(st.just("look"), st.integers(0, REPLICAS - 1), st.booleans()),
        st.tuples(st.just("publish"), st.integers(0, REPLICAS - 1), st.sampled_from((NEW, BACK))),
        st.tuples(st.just("dial"), st.integers(0, AGENTS - 1), st.integers(0, REPLICAS - 1)),
    ),
    max_size=120,
)


@given(STEPS)
def test_an_agent_never_goes_from_a_later_term_back_to_an_earlier_one(
    steps: list[tuple[object, ...]],
) -> None:
    world = World()
    for kind, *given_ in steps:
        match kind, given_:
            case "wait", [float(seconds)]:
                world.now += seconds
            case "look", [int(which), bool(is_lost)]:
                world.look(which, is_lost=is_lost)
            case "publish", [int(which), str(wish)]:
                world.publish(which, wish)
            case "dial", [int(agent), int(which)]:
                world.dial(agent, which)
    numbers = [one.number for one in world.published]
    assert len(numbers) == len(set(numbers)), "a number means one thing"
    in_order = sorted(world.published, key=lambda one: one.number)
    tokens = [one.token for one in in_order]
    assert tokens == sorted(tokens), "a later term's numbers are above an earlier one's"
    for taken in world.taken:
        assert [one.token for one in taken] == sorted(one.token for one in taken)
