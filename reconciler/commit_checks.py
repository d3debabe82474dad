"""May a commit that Git brought be read at all?

In:   what a fetch found; what began a rollout before it; who must have signed; what a person acknowledged
Out:  nothing, or StalledError; in the history, why a commit was stopped
Shell over the source and the state database.

Holds always:
1. Only a descendant of the last commit that began a rollout is read by itself.
2. What agents enforce and nobody can name is not replaced before a person says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from netpolicy.errors import StalledError
from netpolicy.status import Reason
from reconciler.first_revision import unknown
from reconciler.followed import Followed
from reconciler.rollout.descent import may_follow
from reconciler.rollout.machine import Phase
from reconciler.signatures.check import check_signatures
from reconciler.signatures.rules import Covers, Verification
from reconciler.source import Fetched, Relation
from reconciler.state import judgements
from reconciler.state.database import Database
from reconciler.state.rollouts import Entry, RolloutStore

MAX_REASON: Final = 1_000
"""Characters that the history keeps of why a commit was stopped."""


class CommitChecks:
    """Checks commits, newest first."""

    def __init__(
        self,
        database: Database,
        store: RolloutStore,
        followed: Followed,
        *,
        unnamed: Callable[[], int],
        noted: Callable[[], None],
    ) -> None:
        """`unnamed`: the number of what agents enforce while nobody knows which commit that is; else 0.
        `noted` is called when the history says of a commit why it was stopped."""
        self._database = database
        self._store = store
        self._followed = followed
        self._unnamed = unnamed
        self._noted = noted

    async def check(
        self, fetched: Fetched, verification: Verification | None, *, since: str
    ) -> None:
        """Raises StalledError if the commit must not be read. `since`: the last one that began a rollout."""
        with self._told_where_it_stops(fetched.commit):
            self._check_first(fetched.commit)
            self._check_descent(fetched)
            if verification is not None:
                await asyncio.to_thread(self._check_signatures, verification, fetched.commit, since)

    def is_acknowledged(self, commit: str) -> bool:
        """True if a person wants this commit, whatever was enforced before it."""
        return judgements.is_acknowledged(self._database, commit)

    def _check_first(self, commit: str) -> None:
        held = self._unnamed()
        if held and not self.is_acknowledged(commit):
            raise unknown(held, commit)

    def _check_descent(self, fetched: Fetched) -> None:
        if may_follow(
            fetched.commit,
            last_brought=fetched.previous or "",
            descends=fetched.relation is not Relation.DIVERGED,
            acknowledged=self.is_acknowledged(fetched.commit),
        ):
            return
        raise StalledError(
            f"{fetched.commit} does not descend from the last commit {fetched.previous}: the"
            f" history was rewritten. To accept it: tidegate acknowledge {fetched.commit}",
            reason=Reason.HISTORY_DIVERGED,
        )

    def _check_signatures(self, demanded: Verification, commit: str, since: str) -> None:
        """What Git brought since the last commit that began a rollout must be vouched for."""
        whole_range = demanded.covers is Covers.RANGE
        commits = self._followed.source.signed(commit, since=since, whole_range=whole_range)
        check_signatures(demanded, commits)

    @contextmanager
    def _told_where_it_stops(self, commit: str) -> Iterator[None]:
        """Have the history, and by it the Git host, say why a commit is not even read."""
        try:
            yield
        except StalledError as error:
            waits = error.reason == Reason.HISTORY_DIVERGED
            self._store.note(
                Entry(
                    at=time.time(),
                    revision=commit,
                    event=error.reason,
                    phase=Phase.WAITING if waits else Phase.REJECTED,
                    reason=str(error)[:MAX_REASON],
                )
            )
            self._noted()
            raise
