"""The reconciler: joins the stages and keeps them going.

Shell. One task polls Git, one watches the inventory, one keeps the metadata fresh; the push server
tells what agents say.

Holds always:
1. No failure of Git, of a revision, or of storage changes what is announced.
2. Only a descendant of the last published commit is published by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from netpolicy.bundle import bundle_digest
from netpolicy.errors import Severity, StalledError, TransientError
from netpolicy.inventory import Inventory, address_entries
from netpolicy.status import Condition, Reason
from reconciler import conditions
from reconciler.cluster import watch_inventory
from reconciler.config import ReconcilerConfig
from reconciler.fleet_watch import FleetWatch
from reconciler.judge import JudgeCache, Verdict, judge
from reconciler.publisher import Publisher
from reconciler.push import PushServer
from reconciler.source import Fetched, GitSource, Relation, RevisionFiles
from reconciler.state import fleet, judgements
from reconciler.state.database import Database

log = structlog.get_logger()

LONGEST_BACKOFF_SECONDS: Final = 60.0


class Reconciler:
    """One running reconciler over one state directory."""

    def __init__(self, config: ReconcilerConfig) -> None:
        """Open state and keys; raises StalledError if either cannot be used."""
        self._config = config
        self._database = Database.open(config.state_dir)
        self._source = GitSource(config.repository, config.state_dir / "source")
        self._fleet = FleetWatch(self._database, changed=self._check_fleet)
        self._push = PushServer(config.push, observer=self._fleet)
        self._publisher = Publisher(self._database, config.keys, self._push)
        self._cache = JudgeCache()
        self._files: RevisionFiles | None = None
        self._inventory = Inventory(cluster=config.cluster)
        self._judged = ""
        self._judged_for: dict[str, frozenset[str]] = {}
        self._refused = False
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Serve and reconcile until cancelled."""
        port = await self._push.start()
        try:
            self._publisher.resume()
            log.info("reconciler_ready", port=port, cluster=self._config.cluster)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_inventory())
                tasks.create_task(self._keep_fresh())
                tasks.create_task(self._poll())
        finally:
            await self._push.stop()
            self._source.close()
            self._database.close()

    @property
    def judged(self) -> str:
        """The last commit that was judged since the start; empty before the first."""
        return self._judged

    def poke(self) -> None:
        """Fetch now instead of at the next interval."""
        self._wake.set()

    async def _poll(self) -> None:
        failures = 0
        while True:
            failures = 0 if await self._pass() else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(_delay(self._config.interval_seconds, failures)):
                    await self._wake.wait()
            self._wake.clear()

    async def _pass(self) -> bool:
        """One pass; False if something failed that a retry may heal."""
        try:
            await self._reconcile()
        except TransientError as error:
            log.warning("pass_failed", error=str(error))
            self._say(conditions.not_ready(Reason.GIT_OPERATION_FAILED, str(error)))
            return False
        except StalledError as error:
            log.error("pass_stalled", reason=error.reason, error=str(error))
            self._say(conditions.stalled(error.reason, str(error)))
        return True

    async def _reconcile(self) -> None:
        started = time.monotonic()
        last = self._publisher.publication
        since = last.revision if last else None
        fetched = await asyncio.to_thread(self._source.fetch, since=since)
        commit = fetched.commit
        if commit == self._judged:
            self._check_fleet()
            self._say(self._outcome())
            return
        self._check_descent(fetched)
        files = await asyncio.to_thread(self._source.read, commit, known=self._files)
        fetched_at = time.monotonic()
        self._judged_for = self._fleet.capabilities(self._nodes())
        verdict = await asyncio.to_thread(self._judge, files)
        judged_at = time.monotonic()
        published = self._publisher.settle(self._judgement(commit, verdict), verdict)
        self._files, self._judged, self._refused = files, commit, not verdict.accepted
        self._say(self._outcome())
        publication = self._publisher.publication
        log.info(
            "reconciled",
            revision=commit,
            outcome="published" if published else ("unchanged" if verdict.accepted else "refused"),
            sequence=publication.sequence if publication else 0,
            digest=publication.digest if publication else "",
            units=len(verdict.units),
            policies=verdict.policy_count,
            errors=verdict.count(Severity.ERROR),
            warnings=verdict.count(Severity.WARNING),
            fetch_seconds=round(fetched_at - started, 4),
            judge_seconds=round(judged_at - fetched_at, 4),
            publish_seconds=round(time.monotonic() - judged_at, 4),
        )

    def _check_descent(self, fetched: Fetched) -> None:
        if fetched.relation is not Relation.DIVERGED:
            return
        if judgements.is_acknowledged(self._database, fetched.commit):
            return
        raise StalledError(
            f"{fetched.commit} does not descend from the enforced commit {fetched.previous}: the"
            f" history was rewritten. To accept it: tidegate acknowledge {fetched.commit}",
            reason=Reason.HISTORY_DIVERGED,
        )

    def _judge(self, files: RevisionFiles) -> Verdict:
        publication = self._publisher.publication
        return judge(
            files.files,
            cluster=self._config.cluster,
            inventory=self._inventory if self._inventory.pods else None,
            cache=self._cache,
            had_policies=publication is not None and publication.digest != bundle_digest({}),
            nodes=self._judged_for,
            found=files.diagnostics,
        )

    def _judgement(self, commit: str, verdict: Verdict) -> judgements.Judgement:
        return judgements.Judgement(
            revision=commit,
            accepted=verdict.accepted,
            summary=self._source.commit_summary(commit).subject,
            diagnostics=verdict.diagnostics,
            judged_at=time.time(),
        )

    def _outcome(self) -> tuple[Condition, ...]:
        """The conditions after a pass that came through."""
        last = judgements.last_judgement(self._database)
        if last is not None and not last.accepted:
            return conditions.stalled(
                Reason.VALIDATION_FAILED,
                f"{last.revision} is refused with {len(last.diagnostics)} diagnostics",
            )
        publication = self._publisher.publication
        if publication is None:
            return conditions.not_ready(Reason.PROGRESSING, "nothing is published yet")
        return conditions.ready(f"{publication.revision} is published as {publication.sequence}")

    def _say(self, said: tuple[Condition, ...]) -> None:
        before = fleet.conditions(self._database)
        dated = conditions.with_times(said, before, now=time.time())
        if set(dated) == set(before):
            return
        try:
            fleet.save_conditions(self._database, dated)
        except TransientError as error:
            log.error("conditions_not_saved", error=str(error))

    async def _follow_inventory(self) -> None:
        async for inventory in watch_inventory(self._config.inventory):
            self._inventory = replace(inventory, cluster=self._config.cluster)
            self._push.set_inventory(address_entries(self._inventory))
            log.info("inventory_read", nodes=len(inventory.nodes), pods=len(inventory.pods))
            self._check_fleet()

    async def _keep_fresh(self) -> None:
        if self._publisher.is_ageing:  # nobody refreshed it while no reconciler ran
            self._refresh()
        while True:
            await asyncio.sleep(self._config.timestamp_interval_seconds)
            self._refresh()

    def _refresh(self) -> None:
        try:
            self._publisher.refresh()
        except (TransientError, StalledError) as error:
            log.error("timestamp_not_refreshed", error=str(error))

    def _nodes(self) -> frozenset[str]:
        return frozenset(node.name for node in self._inventory.nodes)

    def _check_fleet(self) -> None:
        """Agents or nodes changed: is the rollout done, or can a refused revision be enforced now?"""
        rollout, nodes = self._publisher.rollout, self._nodes()
        if rollout is not None and self._fleet.enforce(nodes, rollout.sequence):
            try:
                self._publisher.fleet_enforces(nodes)
            except TransientError as error:
                # Neither an agent's stream nor the inventory's ends for it; the next pass tries again.
                log.error("rollout_not_saved", revision=rollout.revision, error=str(error))
        if self._refused and self._fleet.capabilities(nodes) != self._judged_for:
            self._judged = ""
            self.poke()


def _delay(interval: float, failures: int) -> float:
    """The interval, or after failures full jitter up to a growing bound; seconds."""
    if failures == 0:
        return interval
    bound = min(LONGEST_BACKOFF_SECONDS, interval * 2 ** min(failures, 10))
    return random.uniform(interval, max(interval, bound))  # noqa: S311  not a secret
