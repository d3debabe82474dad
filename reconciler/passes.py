"""Look at Git again and again: fetch, check, judge, and begin the rollout of what is accepted.

In:   the repository that is followed
Out:  judgements saved, rollouts begun, how each pass went
Shell over the source; the stages decide.

Holds always:
1. No failure of Git, of a revision, or of storage changes what is announced.
2. A commit is judged once, unless what it was judged by is another meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from netpolicy.errors import Severity, StalledError, TransientError
from netpolicy.status import Reason
from reconciler import conditions
from reconciler.bringing_back import BringingBack
from reconciler.commit_checks import CommitChecks
from reconciler.followed import Followed
from reconciler.judging import Judged, Judging
from reconciler.objects import read_policies
from reconciler.objects.policy import PolicyObject
from reconciler.publisher import CUT_OFF, Publisher
from reconciler.rollout.events import Refused
from reconciler.rollout.machine import Rollout, step
from reconciler.source import RevisionFiles
from reconciler.staging.driver import Rollouts
from reconciler.staging.git_contact import GitContact
from reconciler.staging.reverts import Reverts
from reconciler.state import judgements
from reconciler.state.database import Database
from reconciler.state.rollouts import RolloutStore
from reconciler.surroundings import Remembered
from reconciler.telling import Telling

log = structlog.get_logger()

LONGEST_BACKOFF_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 60.0
"""Between two looks while nothing is named that could be followed."""


class Passes:
    """Passes over one repository at a time."""

    def __init__(
        self,
        database: Database,
        store: RolloutStore,
        *,
        followed: Followed,
        git: GitContact,
        checks: CommitChecks,
        judging: Judging,
        rollouts: Rollouts,
        publisher: Publisher,
        reverts: Reverts,
        telling: Telling,
        remembered: Callable[[], Remembered],
        looked: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        """`remembered`: what others know of what was enforced; `looked` is called in a pass that finds
        nothing new, `moved` after each that came through."""
        self._database = database
        self._store = store
        self._followed = followed
        self._git = git
        self._checks = checks
        self._judging = judging
        self._rollouts = rollouts
        self._publisher = publisher
        self._reverts = reverts
        self._telling = telling
        self._remembered = remembered
        self._looked = looked
        self._moved = moved
        self._files: RevisionFiles | None = None
        self._last: Judged | None = None
        self._waiting = ""
        self._wake = asyncio.Event()
        self.judged = ""
        """The last commit that was judged since the start; empty before the first."""

    @property
    def is_refused(self) -> bool:
        """True if the last commit that was judged is refused."""
        return self._last is not None and not self._last.verdict.accepted

    @property
    def is_refused_for_pods(self) -> bool:
        """True if it could be accepted when other pods are there."""
        return self._last is not None and self._last.is_refused_for_pods

    def poke(self) -> None:
        """Fetch now instead of at the next interval."""
        self._wake.set()

    def judge_again(self) -> None:
        """What the last commit was judged by is another: the next pass judges it anew."""
        self.judged = ""

    async def policies_of(self, revision: str) -> tuple[PolicyObject, ...]:
        """The policies of a fetched revision, as their authors wrote them. Raises TransientError."""
        if not self._followed.has_source:
            raise TransientError("nothing was fetched since the start")
        found = await asyncio.to_thread(self._followed.source.read, revision, known=self._files)
        return (await asyncio.to_thread(read_policies, found.files)).objects

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        failures = 0
        while True:
            failures = 0 if await self._pass() else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay(failures)):
                    await self._wake.wait()
            self._wake.clear()

    async def _pass(self) -> bool:
        """One pass; False if something failed that a retry may heal."""
        try:
            await self._reconcile()
        except TransientError as error:
            log.warning("pass_failed", error=str(error))
            self._telling.fail(conditions.not_ready(Reason.GIT_OPERATION_FAILED, str(error)))
            return False
        except StalledError as error:
            log.error("pass_stalled", reason=error.reason, error=str(error))
            self._telling.fail(conditions.stalled(error.reason, str(error)))
            return True
        self._telling.succeed()
        await self._push_revert()
        self._moved()
        return True

    async def _reconcile(self) -> None:
        if self._followed.turn():
            self.judge_again()  # the site's settings, or the repository, are others now
        following = self._followed.wanted
        if following is None or following.is_suspended:
            self._looked()
            return
        if not self._rollouts.stable and self._remembered().stable:
            await self._bring_back()
        started = time.monotonic()
        since = self._store.brought() or self._rollouts.stable
        with self._git.fetching():
            fetched = await asyncio.to_thread(self._followed.source.fetch, since=since or None)
        if fetched.commit == self.judged:
            self._looked()
            return
        if not self._publisher.may_advance:
            self._say_waits(fetched.commit)
            return
        self._waiting = ""
        await self._checks.check(fetched, following.verification, since=since)
        await self._take(fetched.commit, started=started)

    def _say_waits(self, commit: str) -> None:
        """Once a commit, not at each pass: being cut off may last."""
        if commit != self._waiting:
            log.info("revision_waits", revision=commit, why=CUT_OFF)
        self._waiting = commit

    async def _take(self, commit: str, *, started: float) -> None:
        """Read and judge a commit, and begin its rollout if it is accepted."""
        files = await asyncio.to_thread(self._followed.source.read, commit, known=self._files)
        fetched_at = time.monotonic()
        judged = await self._judging.judge(commit, files)
        judged_at = time.monotonic()
        outcome = self._settle(judged)
        self._files, self._last, self.judged = files, judged, commit
        verdict = judged.verdict
        log.info(
            "reconciled",
            revision=commit,
            outcome=outcome,
            sequence=self._publisher.sequence,
            digest=self._publisher.digest,
            units=len(verdict.units),
            policies=verdict.policy_count,
            errors=verdict.count(Severity.ERROR),
            warnings=verdict.count(Severity.WARNING),
            fetch_seconds=round(fetched_at - started, 4),
            judge_seconds=round(judged_at - fetched_at, 4),
            publish_seconds=round(time.monotonic() - judged_at, 4),
        )

    def _settle(self, judged: Judged) -> str:
        """Save a judgement, and begin the rollout of what it accepts; what became of it, in a word."""
        judgement, now = judged.judgement, time.time()
        if not judged.verdict.accepted:
            revision = judgement.revision
            rejected, _ = step(Rollout(revision=revision), Refused(revision=revision), now=now)
            judgements.save_judgement(self._database, judgement, rejected)
            return "refused"
        judgements.save_judgement(self._database, judgement)
        return self._rollouts.begin(judged.revision, now=now)

    async def _bring_back(self) -> None:
        """Publish again what was enforced, and what was on its way, when the state was lost."""
        bringing_back = BringingBack(
            self._followed.source,
            self._rollouts,
            self._store,
            self._judge_and_save,
            is_acknowledged=self._checks.is_acknowledged,
        )
        await bringing_back.run(self._remembered)

    async def _judge_and_save(self, commit: str, files: RevisionFiles) -> Judged:
        judged = await self._judging.judge(commit, files)
        judgements.save_judgement(self._database, judged.judgement)
        return judged

    async def _push_revert(self) -> None:
        """Git answered: what was rolled back can be reverted there."""
        following = self._followed.wanted
        if following is not None and not following.is_suspended:
            await self._reverts.push_due(self._rollouts.rollout, self._followed.source)

    def _delay(self, failures: int) -> float:
        """Seconds to the next pass."""
        following = self._followed.wanted
        return _pause(following.interval_seconds if following else IDLE_SECONDS, failures)


def _pause(interval: float, failures: int) -> float:
    """The interval, or after failures full jitter up to a growing bound; seconds."""
    if failures == 0:
        return interval
    bound = min(LONGEST_BACKOFF_SECONDS, interval * 2 ** min(failures, 10))
    return random.uniform(interval, max(interval, bound))  # noqa: S311  spreads load, hides nothing
