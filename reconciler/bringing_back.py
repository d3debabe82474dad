"""After the state was lost: publish what is enforced, and what is on its way, as they were.

In:   Remembered: what is known elsewhere; Git
Out:  publications and rollouts as before, under a new number
Shell over the source.

Holds always:
1. A revision that is new to the fleet is never taken for the first ever, which nothing holds back.
2. What was taken back stays back.
3. Where what is on its way cannot be gone on with, what is enforced is published alone: nodes that enforced
   the other go back, and it begins anew.
4. Nothing is published of what was found to be taken back while it was read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.status import Reason
from reconciler.judge import Verdict
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
LEARNT: Final = "an earlier leader took it back, as agents know"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A revision as validation found it again; `revision` says what it would begin with."""

    verdict: Verdict
    revision: Revision


class BringingBack:
    """One start without state."""

    def __init__(
        self,
        source: GitSource,
        rollouts: Rollouts,
        store: RolloutStore,
        judge: Callable[[str, RevisionFiles], Awaitable[Judged]],
    ) -> None:
        self._source = source
        self._rollouts = rollouts
        self._store = store
        self._judge = judge

    async def run(self, known: Callable[[], Remembered]) -> None:
        """Raises StalledError or TransientError if what is enforced cannot be had, or is known to be another
        meanwhile."""
        remembered = known()
        stable = await self._found_again(remembered.stable)
        if stable is None:
            raise StalledError(
                f"the branch does not descend from the enforced revision {remembered.stable}",
                reason=Reason.HISTORY_DIVERGED,
            )
        if not stable.verdict.accepted:
            raise StalledError(
                f"the enforced revision {remembered.stable} is refused now",
                reason=Reason.VALIDATION_FAILED,
            )
        said = remembered.on_its_way
        current = await self._found_again(said.revision) if said is not None else None
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

    async def _found_again(self, commit: str) -> Judged | None:
        """A commit judged as it was; None if the branch does not hold it any more."""
        fetched = await asyncio.to_thread(self._source.fetch, since=commit)
        if fetched.relation is Relation.DIVERGED:
            return None
        files = await asyncio.to_thread(self._source.read, commit, known=None)
        return await self._judge(commit, files)
