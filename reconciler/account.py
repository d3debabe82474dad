"""Everything the reconciler can say of itself at one moment, as a value.

In:   the state database, the agents' last words, who is in the cluster
Out:  Account
Shell: reads the state database, which a running reconciler may be writing.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpolicy.status import Condition
from reconciler.publication import Publication
from reconciler.rollout.machine import Rollout
from reconciler.state import fleet, judgements
from reconciler.state.database import Database
from reconciler.state.fleet import AgentRecord
from reconciler.state.judgements import Judgement
from reconciler.state.rollouts import Entry, RolloutStore, Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How things stand. `nodes`: the names of all nodes of the inventory."""

    publication: Publication | None
    policies: int
    judgement: Judgement | None
    current: Rollout | None
    conditions: tuple[Condition, ...]
    agents: tuple[AgentRecord, ...]
    nodes: frozenset[str]

    @property
    def stable(self) -> str:
        """The enforced revision; empty before the first."""
        return self.publication.revision if self.publication else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutAccount:
    """What is known of one revision's rollout; `history` has the newest first."""

    rollout: Rollout
    sighting: Sighting | None
    history: tuple[Entry, ...]


def account_of(
    database: Database,
    publication: Publication | None,
    *,
    policies: int,
    agents: tuple[AgentRecord, ...],
    nodes: frozenset[str],
) -> Account:
    """How things stand now."""
    return Account(
        publication=publication,
        policies=policies,
        judgement=judgements.last_judgement(database),
        current=RolloutStore(database).current(),
        conditions=fleet.conditions(database),
        agents=agents,
        nodes=nodes,
    )


def rollout_account(store: RolloutStore, revision: str, *, entries: int) -> RolloutAccount | None:
    """What is known of a revision's rollout, if it is remembered."""
    rollout = store.rollout_of(revision)
    if rollout is None:
        return None
    history = tuple(entry for entry in store.history() if entry.revision == revision)
    return RolloutAccount(
        rollout=rollout, sighting=store.sighting(revision), history=history[:entries]
    )
