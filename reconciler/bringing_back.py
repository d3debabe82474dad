"""After the state was lost: publish what is enforced, and what is on its way, as they were.

In:   Remembered: what objects or agents know; Git
Out:  publications and rollouts as before, under a new number
Shell over the source.

Holds always:
1. A revision that is new to the fleet is never taken for the first ever, which nothing holds back.
2. What was taken back stays back.
3. Where what is on its way cannot be gone on with, what is enforced is published alone: nodes that enforced
   the other go back, and it begins anew.
4. Nothing is published of what was found to be taken back while it was read.
5. Where what is enforced cannot be had, nothing is published until a person says what is to take its place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.status import Reason
from reconciler.judging import Judged
from reconciler.rollout.carrying_on import OnItsWay
from reconciler.rollout.machine import Phase, Rollout
from reconciler.source import GitSource, Relation, RevisionFiles
from reconciler.staging.driver import Rollouts
from reconciler.staging.entries import entry_of
from reconciler.staging.interfaces import Revision
from reconciler.state.rollouts import Change, RolloutStore
from reconciler.surroundings import Remembered

log = structlog.get_logger()

BROUGHT_BACK: Final = "state_brought_back"
BEGINS_ANEW: Final = "rollout_begins_anew"
GIVEN_UP: Final = "state_not_brought_back"
LEARNT: Final = "an earlier leader took it back, as agents know"


class BringingBack:
    """One start without state."""

    def __init__(
        self,
        source: GitSource,
        rollouts: Rollouts,
        store: RolloutStore,
        judge: Callable[[str, RevisionFiles], Awaitable[Judged]],
        *,
        is_acknowledged: Callable[[str], bool],
    ) -> None:
        """`is_acknowledged`: true of a commit that a person wants in place of what is enforced."""
        self._source = source
        self._rollouts = rollouts
        self._store = store
        self._judge = judge
        self._is_acknowledged = is_acknowledged

    async def run(self, known: Callable[[], Remembered]) -> None:
        """Raises StalledError or TransientError if what is enforced cannot be had, or is known to be another
        meanwhile. Publishes nothing if a person gave up on it."""
        remembered = known()
        head, stable = await self._found_again(remembered.stable)
        if stable is None or not stable.verdict.accepted:
            if not self._is_acknowledged(head):
                raise _cannot_be_had(remembered.stable, head, is_in_branch=stable is not None)
            self._keep_back(remembered)
            log.warning(GIVEN_UP, revision=remembered.stable, acknowledged=head)
            return
        said = remembered.on_its_way
        _, current = await self._found_again(said.revision) if said is not None else ("", None)
        if known() != remembered:
            raise TransientError("agents know of another revision that was enforced")
        self._keep_back(remembered)
        outcome = self._go_on(stable.revision, said, current)
        log.info(BROUGHT_BACK, revision=remembered.stable, outcome=outcome)

    def _keep_back(self, remembered: Remembered) -> None:
        for revision in remembered.taken_back:
            rollout = Rollout(revision=revision, phase=Phase.QUARANTINED, reason=LEARNT)
            told = (entry_of(rollout, "Learnt", time.time()),)
            is_news = revision in remembered.learnt
            self._store.save(
                Change(
                    rollouts=(rollout if is_news else replace(rollout, reason=""),),
                    entries=told if is_news else (),
                )
            )

    def _go_on(self, stable: Revision, said: OnItsWay | None, current: Judged | None) -> str:
        if said is None:
            return self._rollouts.begin(stable, now=time.time())
        if (
            current is not None
            and current.verdict.accepted
            and self._rollouts.carry_on(stable, current.revision, said, now=time.time())
        ):
            return f"{said.revision} goes on in {said.phase}"
        log.warning(BEGINS_ANEW, revision=said.revision, phase=said.phase)
        return self._rollouts.begin(stable, now=time.time())

    async def _found_again(self, commit: str) -> tuple[str, Judged | None]:
        """Where the branch is, and a commit judged as it was: None if the branch does not hold it."""
        fetched = await asyncio.to_thread(self._source.fetch, since=commit)
        if fetched.relation is Relation.DIVERGED:
            return fetched.commit, None
        files = await asyncio.to_thread(self._source.read, commit, known=None)
        return fetched.commit, await self._judge(commit, files)


def _cannot_be_had(stable: str, head: str, *, is_in_branch: bool) -> StalledError:
    """Why the enforced revision is not published again, and what a person can do."""
    instead = f"to enforce {head} at once in its place: tidegate acknowledge {head}"
    if not is_in_branch:
        return StalledError(
            f"the branch does not descend from the enforced revision {stable}; {instead}",
            reason=Reason.HISTORY_DIVERGED,
        )
    return StalledError(
        f"the enforced revision {stable} is refused now; {instead}",
        reason=Reason.VALIDATION_FAILED,
    )
