"""The reconciler: joins the stages and keeps them going.

Shell. One task polls Git, one watches the inventory, one moves rollouts, one keeps the metadata fresh;
the push server tells what agents say.

Holds always:
1. No failure of Git, of a revision, or of storage changes what is announced.
2. Only a descendant of the last commit that Git brought begins a rollout by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final

import structlog
from prometheus_client.core import Metric

from netpolicy.address_book import AddressBook
from netpolicy.bundle import bundle_digest, pack_unit
from netpolicy.errors import Diagnostic, Severity, StalledError, TransientError
from netpolicy.inventory import Inventory, InventoryStep
from netpolicy.status import Condition, Reason
from netpolicy.status_pages import StatusPages
from reconciler import conditions
from reconciler.account import Account, account_of
from reconciler.bringing_back import BringingBack, Judged
from reconciler.config import ReconcilerConfig
from reconciler.encryption.places import Places
from reconciler.encryption.watch import EncryptionWatch
from reconciler.first_revision import FirstRevision, unknown
from reconciler.fleet_records import FleetRecords
from reconciler.fleet_watch import FleetWatch
from reconciler.followed import Followed
from reconciler.intents.read import FOLDER
from reconciler.judge import JudgeCache, Verdict, judge
from reconciler.metrics import Standing, reconciler_metrics
from reconciler.notify import Notifier
from reconciler.objects import read_policies
from reconciler.objects.policy import PolicyObject
from reconciler.publisher import CUT_OFF, Publisher
from reconciler.push import Hello, NodeKeys, PushServer
from reconciler.renumbering import Renumbering
from reconciler.rollout.descent import may_follow
from reconciler.rollout.events import Refused
from reconciler.rollout.machine import Phase, Rollout, step
from reconciler.sign import HeldReader, expiry_of
from reconciler.signatures.check import check_signatures
from reconciler.signatures.rules import Covers
from reconciler.source import Fetched, Relation, RevisionFiles
from reconciler.staging.driver import Rollouts
from reconciler.staging.git_contact import GitContact
from reconciler.staging.interfaces import Revision
from reconciler.staging.reverts import Reverts
from reconciler.staging.task import RolloutTask
from reconciler.state import fleet, judgements
from reconciler.state.database import Database
from reconciler.state.rollouts import Entry, RolloutStore
from reconciler.surroundings import (
    NOTHING_REMEMBERED,
    Following,
    Remembered,
    Standalone,
    Surroundings,
)
from reconciler.validate.tls_on_pods import CODE as MET_ON_PODS
from reconciler.webhook import WebhookServer
from reconciler.withdrawals import Withdrawals

log = structlog.get_logger()

LONGEST_BACKOFF_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 60.0
"""Between two looks while nothing is named that could be followed."""

FEW_PODS: Final = 500
"""So many changed pods take a moment; more are worked through beside the event loop."""

HEARD_ANOTHER: Final = "this leader is cut off, and you heard another since"

MAX_REASON: Final = 1_000
"""Characters that the history keeps of why a commit was stopped."""

INVENTORY_PATIENCE_SECONDS: Final = 5.0
"""How long the first pass waits for the inventory: intents that name pods cannot be held without it."""


class Reconciler:
    """One running reconciler over one state directory."""

    def __init__(
        self,
        config: ReconcilerConfig,
        surroundings: Surroundings,
        *,
        remembered: Remembered = NOTHING_REMEMBERED,
    ) -> None:
        """Open state and keys; raises StalledError if either cannot be used."""
        self._config = config
        self._surroundings = surroundings
        self._database = Database.open(config.state_dir)
        self._followed = Followed(config.state_dir / "source", config.following)
        self._encryption = EncryptionWatch(self._database, publish=self._feed_node_keys)
        self._records = FleetRecords(self._database)
        self._fleet = FleetWatch(
            self._records,
            encryption=self._encryption,
            changed=self._check_fleet,
            cannot_serve=self._cannot_serve,
        )
        self._push = PushServer(config.push, observer=self._fleet)
        self._publisher = Publisher(
            self._database,
            config.keys,
            self._push,
            least_sequence=surroundings.least_sequence,
            may_advance=surroundings.may_advance,
        )
        reader = HeldReader(config.keys)
        self._withdrawals = Withdrawals(
            # Whoever has state of its own knows better than the objects.
            NOTHING_REMEMBERED if self._publisher.sequence else remembered,
            reader,
            first_announced=lambda: self._publisher.first_sequence,
        )
        self._first = FirstRevision(reader, is_asking=lambda: self._knows_nothing)
        self._renumbering = Renumbering(self._publisher, self._fleet)
        self._store = RolloutStore(self._database)
        self._rollouts = Rollouts(self._store, self._publisher)
        self._git = GitContact(self._store)
        self._reverts = Reverts(self._store)
        self._rollout_task = RolloutTask(
            self._rollouts,
            self._store,
            self._fleet,
            surroundings.rollout_requests,
            git=self._git,
            fetch=self.poke,
            inventory=lambda: self._inventory,
            moved=self._say_outcome,
        )
        self._notifier = Notifier(self._store)
        self._notifier.want(config.following.notifications if config.following else ())
        self._trouble: tuple[Condition, ...] = ()
        self._cache = JudgeCache()
        self._files: RevisionFiles | None = None
        self._inventory = Inventory(cluster=config.cluster)
        self._addresses = AddressBook()
        self._has_inventory = asyncio.Event()
        self._judged = ""
        self._waiting = ""
        self._judged_for: dict[str, frozenset[str]] = {}
        self._refused = False
        self._refused_for_pods = False
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Serve and reconcile until cancelled."""
        port = await self._push.start()
        beside = [server for server in (self._pages(), self._webhook()) if server is not None]
        try:
            for server in beside:
                await server.start()
            self._publisher.resume()
            log.info("reconciler_ready", port=port, cluster=self._config.cluster)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow_inventory())
                tasks.create_task(self._keep_fresh())
                tasks.create_task(self._records.run())
                tasks.create_task(self._rollout_task.run())
                tasks.create_task(self._notifier.run())
                tasks.create_task(self._renumbering.run())
                tasks.create_task(self._poll())
        finally:
            for server in beside:
                await server.stop()
            await self._push.stop()
            self._followed.close()
            self._database.close()

    @property
    def judged(self) -> str:
        """The last commit that was judged since the start; empty before the first."""
        return self._judged

    @property
    def store(self) -> RolloutStore:
        """What is remembered of rollouts."""
        return self._store

    @property
    def held_sequence(self) -> int:
        """The highest publication that an agent says it holds; 0 while none spoke."""
        return self._renumbering.held_sequence

    @property
    def overruled_by(self) -> Remembered | None:
        """What is to be begun anew with, if what was announced had been taken back; None if it had not."""
        return self._withdrawals.remembered if self._withdrawals.is_overruled else None

    async def until_overruled(self) -> None:
        """Wait until agents know that what was announced had been taken back."""
        await self._withdrawals.until_overruled()

    @property
    def sequence(self) -> int:
        """The publication in force; 0 before the first."""
        return self._publisher.sequence

    @property
    def stable(self) -> str:
        """The revision that is the enforced policy; empty before the first."""
        return self._rollouts.stable

    async def policies_of(self, revision: str) -> tuple[PolicyObject, ...]:
        """The policies of a fetched revision, as their authors wrote them. Raises TransientError."""
        if not self._followed.has_source:
            raise TransientError("nothing was fetched since the start")
        found = await asyncio.to_thread(self._followed.source.read, revision, known=self._files)
        return (await asyncio.to_thread(read_policies, found.files)).objects

    def account(self) -> Account:
        """How things stand."""
        return account_of(
            self._database,
            self._publisher.publication,
            policies=self._publisher.policy_count,
            agents=self._records.all(),
            nodes=self._nodes(),
        )

    def silent_peers(self) -> dict[str, tuple[str, ...]]:
        """Node → peers that its tunnels have not heard for long."""
        return self._fleet.silent()

    def metrics(self) -> tuple[Metric, ...]:
        """The same in numbers."""
        return reconciler_metrics(self._standing())

    def follow(self, following: Following) -> None:
        """Follow this from the next pass on, which begins now."""
        self._followed.want(following)
        self._notifier.want(following.notifications)
        self.poke()

    def end_streams(self, share: float) -> None:
        """End this share of the agents' streams, whichever; those agents dial again."""
        self._push.end_streams(share)

    def poke(self) -> None:
        """Fetch now instead of at the next interval."""
        self._wake.set()

    def _pages(self) -> StatusPages | None:
        """Metrics and probes: ready is who serves agents, whatever Git or a revision is like."""
        if not self._config.metrics:
            return None
        return StatusPages(
            self._config.metrics,
            metrics=self.metrics,
            is_ready=lambda: True,
        )

    def _webhook(self) -> WebhookServer | None:
        if self._config.webhook is None:
            return None
        return WebhookServer(self._config.webhook, fetch=self.poke)

    def _standing(self) -> Standing:
        publication = self._publisher.publication
        return Standing(
            sequence=self._publisher.sequence,
            commit=publication.revision if publication else "",
            digest=self._publisher.digest,
            expires_at=expiry_of(publication).timestamp() if publication else None,
            rollout=self._rollouts.rollout,
            conditions=fleet.conditions(self._database),
            agents=self._records.all(),
            nodes=len(self._inventory.nodes),
        )

    async def _poll(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(INVENTORY_PATIENCE_SECONDS):
                await self._has_inventory.wait()
        await self._ask_agents()
        failures = 0
        while True:
            failures = 0 if await self._pass() else failures + 1
            with suppress(TimeoutError):
                async with asyncio.timeout(self._delay(failures)):
                    await self._wake.wait()
            self._wake.clear()

    @property
    def _knows_nothing(self) -> bool:
        """True while neither our state nor an object says what is enforced."""
        return not self._publisher.sequence and not self._withdrawals.remembered.stable

    async def _ask_agents(self) -> None:
        """Where nothing is known, nodes may enforce something all the same."""
        patience = self._config.agents_patience_seconds
        if not self._knows_nothing or self._fleet.spoke(self._nodes()):
            return
        log.info("agents_asked", nodes=len(self._nodes()), patience_seconds=patience)
        self._say(conditions.asking(patience))
        await self._first.until_all_spoke(
            lambda: self._fleet.spoke(self._nodes()), seconds=patience
        )
        log.info(
            "agents_answered",
            all_spoke=self._fleet.spoke(self._nodes()),
            enforced=self._first.remembered.stable,
        )

    def _remembered(self) -> Remembered:
        """What was enforced before this start without state, as the objects or else agents know it."""
        known = self._withdrawals.remembered
        return known if known.stable else self._first.remembered

    async def _pass(self) -> bool:
        """One pass; False if something failed that a retry may heal."""
        try:
            await self._reconcile()
        except TransientError as error:
            log.warning("pass_failed", error=str(error))
            self._trouble = conditions.not_ready(Reason.GIT_OPERATION_FAILED, str(error))
            self._say(self._trouble)
            return False
        except StalledError as error:
            log.error("pass_stalled", reason=error.reason, error=str(error))
            self._trouble = conditions.stalled(error.reason, str(error))
            self._say(self._trouble)
            return True
        self._trouble = ()
        await self._push_revert()
        self._say_outcome()
        return True

    async def _push_revert(self) -> None:
        """Git answered: what was rolled back can be reverted there."""
        following = self._followed.wanted
        if following is not None and not following.is_suspended:
            await self._reverts.push_due(self._rollouts.rollout, self._followed.source)

    async def _reconcile(self) -> None:
        if self._followed.turn():
            self._judged = ""  # the site's settings, or the repository, are others now
        following = self._followed.wanted
        if following is None or following.is_suspended:
            self._check_fleet()
            return
        if not self._rollouts.stable and self._remembered().stable:
            await self._bring_back()
        started = time.monotonic()
        brought = self._store.brought() or self._rollouts.stable
        with self._git.fetching():
            fetched = await asyncio.to_thread(self._followed.source.fetch, since=brought or None)
        commit = fetched.commit
        if commit == self._judged:
            self._check_fleet()
            return
        if not self._publisher.may_advance:
            self._say_waits(commit)
            return
        self._waiting = ""
        with self._told_where_it_stops(commit):
            self._check_first(commit)
            self._check_descent(fetched)
            await asyncio.to_thread(self._check_signatures, following, commit, brought)
        files = await asyncio.to_thread(self._followed.source.read, commit, known=self._files)
        fetched_at = time.monotonic()
        self._judged_for = self._fleet.capabilities(self._nodes())
        verdict = await asyncio.to_thread(self._judge, files)
        judged_at = time.monotonic()
        outcome = self._settle(self._judgement(commit, verdict), verdict)
        self._files, self._judged, self._refused = files, commit, not verdict.accepted
        self._refused_for_pods = any(map(_may_be_for_pods, verdict.diagnostics))
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

    def _say_waits(self, commit: str) -> None:
        """Once a commit, not at each pass: being cut off may last."""
        if commit != self._waiting:
            log.info("revision_waits", revision=commit, why=CUT_OFF)
        self._waiting = commit

    async def _bring_back(self) -> None:
        """Publish again what was enforced, and what was on its way, when the state was lost."""
        bringing_back = BringingBack(
            self._followed.source,
            self._rollouts,
            self._store,
            self._judge_again,
            is_acknowledged=self._is_acknowledged,
        )
        await bringing_back.run(self._remembered)

    async def _judge_again(self, commit: str, files: RevisionFiles) -> Judged:
        self._judged_for = self._fleet.capabilities(self._nodes())
        verdict = await asyncio.to_thread(self._judge, files)
        judgements.save_judgement(self._database, self._judgement(commit, verdict))
        return Judged(verdict=verdict, revision=_revision_of(commit, verdict))

    def _settle(self, judgement: judgements.Judgement, verdict: Verdict) -> str:
        """Save a judgement, and begin the rollout of what it accepts; what became of it, in a word."""
        revision, now = judgement.revision, time.time()
        if not verdict.accepted:
            rejected, _ = step(Rollout(revision=revision), Refused(revision=revision), now=now)
            judgements.save_judgement(self._database, judgement, rejected)
            return "refused"
        judgements.save_judgement(self._database, judgement)
        return self._rollouts.begin(_revision_of(revision, verdict), now=now)

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
            self._notifier.wake()
            raise

    def _check_first(self, commit: str) -> None:
        """Agents that hold what nobody can read may enforce anything: no commit is the first for them."""
        held = self._renumbering.held_sequence
        if held and not self._publisher.sequence and not self._is_acknowledged(commit):
            raise unknown(held, commit)

    def _is_acknowledged(self, commit: str) -> bool:
        return judgements.is_acknowledged(self._database, commit)

    def _check_descent(self, fetched: Fetched) -> None:
        if may_follow(
            fetched.commit,
            last_brought=fetched.previous or "",
            descends=fetched.relation is not Relation.DIVERGED,
            acknowledged=self._is_acknowledged(fetched.commit),
        ):
            return
        raise StalledError(
            f"{fetched.commit} does not descend from the last commit {fetched.previous}: the"
            f" history was rewritten. To accept it: tidegate acknowledge {fetched.commit}",
            reason=Reason.HISTORY_DIVERGED,
        )

    def _check_signatures(self, following: Following, commit: str, brought: str) -> None:
        """What Git brought since the last commit that began a rollout must be vouched for."""
        demanded = following.verification
        if demanded is None:
            return
        whole_range = demanded.covers is Covers.RANGE
        commits = self._followed.source.signed(commit, since=brought, whole_range=whole_range)
        check_signatures(demanded, commits)

    def _judge(self, files: RevisionFiles) -> Verdict:
        publication = self._publisher.publication
        following = self._followed.wanted
        return judge(
            files.files,
            cluster=self._config.cluster,
            inventory=self._inventory if self._inventory.pods else None,
            cache=self._cache,
            had_policies=publication is not None
            and publication.digest != bundle_digest({}, publication.terms.stable.encryption),
            nodes=self._judged_for,
            found=files.diagnostics,
            hold_intents=True,
            site=following.site if following is not None else None,
        )

    def _judgement(self, commit: str, verdict: Verdict) -> judgements.Judgement:
        return judgements.Judgement(
            revision=commit,
            accepted=verdict.accepted,
            summary=self._followed.source.commit_summary(commit).subject,
            diagnostics=verdict.diagnostics,
            judged_at=time.time(),
        )

    def _say_outcome(self) -> None:
        """Say how things stand; a pass that failed keeps the word until one comes through."""
        self._surroundings.stands()
        self._notifier.wake()
        judged = judgements.last_judgement(self._database)
        said = self._trouble or conditions.of_rollout(
            judged,
            self._rollouts.rollout,
            stable=self._rollouts.stable,
            sequence=self._publisher.sequence,
            differing=self._rollout_task.differing,
            gone_back=self._rollout_task.gone_back,
            revert_trouble=self._reverts.trouble,
        )
        self._say(said)

    def _say(self, said: tuple[Condition, ...]) -> None:
        before = fleet.conditions(self._database)
        dated = conditions.with_times(said, before, now=time.time())
        if set(dated) == set(before):
            return
        try:
            fleet.save_conditions(self._database, dated)
        except TransientError as error:
            log.error("conditions_not_saved", error=str(error))
        self._surroundings.stands()

    async def _follow_inventory(self) -> None:
        async for found in self._surroundings.inventory_steps():
            before = self._inventory
            self._inventory = replace(found.inventory, cluster=self._config.cluster)
            same_nodes = self._inventory.nodes == before.nodes and self._has_inventory.is_set()
            await self._feed_inventory(replace(found, inventory=self._inventory), same_nodes)
            log.info(
                "inventory_read",
                nodes=len(self._inventory.nodes),
                pods=len(self._inventory.pods),
                changed_pods=len(found.pods),
            )
            self._has_inventory.set()
            if self._refused_for_pods:
                self._judged = ""  # the next pass judges it again: the pods may be there now
            if self._refused_for_pods or not same_nodes:
                self._check_fleet()

    async def _feed_inventory(self, found: InventoryStep, same_nodes: bool) -> None:
        """Tell all nodes, and see whose keys count. First the keys: entries that go out without them would
        look like nodes without any."""
        if same_nodes and len(found.pods) <= FEW_PODS:
            self._encryption.move_pods(found.pods)
            self._push.move_inventory(self._addresses.step(found))
            return
        self._encryption.take_places(await asyncio.to_thread(Places, found.inventory))
        self._push.move_inventory(await asyncio.to_thread(self._addresses.step, found))

    def _cannot_serve(self, hello: Hello) -> str:
        """Why an agent that says this must be told nothing now; empty if it can be served."""
        if hello.sequence > self._publisher.sequence and not self._publisher.may_advance:
            return HEARD_ANOTHER  # its refusal would speak against a revision that is innocent
        self._first.hear(hello.held)
        return self._withdrawals.hear(hello.held) if hello.held else ""

    def _feed_node_keys(self, node_keys: NodeKeys) -> None:
        self._push.set_node_keys(node_keys)

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
        """Agents or nodes changed: may the rollout move, or a refused revision be enforced now?"""
        nodes = self._nodes()
        self._first.look()
        self._renumbering.look()
        self._rollout_task.wake()
        self._surroundings.stands()
        if self._refused and self._fleet.capabilities(nodes) != self._judged_for:
            self._judged = ""
            self.poke()

    def _delay(self, failures: int) -> float:
        """Seconds to the next pass."""
        following = self._followed.wanted
        return _pause(following.interval_seconds if following else IDLE_SECONDS, failures)


def _may_be_for_pods(found: Diagnostic) -> bool:
    """True if another inventory may mend it: an intent names pods, or a pod meets two policies."""
    return found.place.path.startswith(FOLDER) or found.code == MET_ON_PODS


def _revision_of(commit: str, verdict: Verdict) -> Revision:
    """What an accepted revision begins its rollout with."""
    units = {unit.namespace: pack_unit(unit) for unit in verdict.units}
    digests = {name: unit.digest for name, unit in units.items()}
    return Revision(
        revision=commit,
        digest=bundle_digest(digests, verdict.encryption),
        units=units,
        encryption=verdict.encryption,
        own_plan=verdict.plan,
        expected=verdict.expected,
    )


def standalone(config: ReconcilerConfig) -> Reconciler:
    """A reconciler beside an inventory file; raises StalledError if the configuration names none."""
    if config.inventory is None:
        raise StalledError("the configuration names no inventory file")
    return Reconciler(config, Standalone(inventory=config.inventory, state_dir=config.state_dir))


def _pause(interval: float, failures: int) -> float:
    """The interval, or after failures full jitter up to a growing bound; seconds."""
    if failures == 0:
        return interval
    bound = min(LONGEST_BACKOFF_SECONDS, interval * 2 ** min(failures, 10))
    return random.uniform(interval, max(interval, bound))  # noqa: S311  not a secret
