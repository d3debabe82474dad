"""The reconciler: joins the stages and keeps them going.

In:   ReconcilerConfig, what it stands in, what is remembered elsewhere
Out:  agents served; how things stand, for whoever asks
Shell. One task looks at Git, one follows the inventory, one moves rollouts, one keeps the metadata fresh;
the push server tells what agents say.

Holds always:
1. No failure of Git, of a revision, or of storage changes what is announced.
2. An agent that this reconciler must not speak to is told nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from prometheus_client.core import Metric

from netpolicy.errors import StalledError
from netpolicy.status import Condition
from netpolicy.status_pages import StatusPages
from reconciler import conditions
from reconciler.account import Account, account_of
from reconciler.commit_checks import CommitChecks
from reconciler.config import ReconcilerConfig
from reconciler.encryption.watch import EncryptionWatch
from reconciler.first_revision import FirstRevision
from reconciler.fleet_records import FleetRecords
from reconciler.fleet_watch import FleetWatch
from reconciler.followed import Followed
from reconciler.freshness import keep_fresh
from reconciler.inventory_feed import InventoryFeed
from reconciler.judging import Judging
from reconciler.metrics import Standing, reconciler_metrics
from reconciler.notify import Notifier
from reconciler.objects.policy import PolicyObject
from reconciler.passes import Passes
from reconciler.publisher import Publisher
from reconciler.push import Hello, NodeKeys, PushServer
from reconciler.renumbering import Renumbering
from reconciler.sign import HeldReader, expiry_of
from reconciler.staging.driver import Rollouts
from reconciler.staging.git_contact import GitContact
from reconciler.staging.reverts import Reverts
from reconciler.staging.task import RolloutTask
from reconciler.state import fleet, judgements
from reconciler.state.database import Database
from reconciler.state.rollouts import RolloutStore
from reconciler.surroundings import (
    NOTHING_REMEMBERED,
    Following,
    Remembered,
    Standalone,
    Surroundings,
)
from reconciler.telling import Telling
from reconciler.webhook import WebhookServer
from reconciler.withdrawals import Withdrawals

log = structlog.get_logger()

HEARD_ANOTHER: Final = "this leader is cut off, and you heard another since"

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
        self._store = RolloutStore(self._database)
        self._notifier = Notifier(self._store)
        self._notifier.want(config.following.notifications if config.following else ())
        self._serve_agents()
        self._begin_with(remembered)
        self._move_rollouts()
        self._follow_git()

    def _serve_agents(self) -> None:
        """What speaks to agents, and listens to them."""
        config, surroundings = self._config, self._surroundings
        self._encryption = EncryptionWatch(self._database, publish=self._feed_node_keys)
        self._records = FleetRecords(self._database)
        self._fleet = FleetWatch(
            self._records,
            encryption=self._encryption,
            changed=self._check_fleet,
            cannot_serve=self._cannot_serve,
        )
        self._push = PushServer(config.push, observer=self._fleet)
        self._feed = InventoryFeed(
            surroundings,
            self._push,
            self._encryption,
            cluster=config.cluster,
            changed=self._inventory_changed,
        )
        self._publisher = Publisher(
            self._database,
            config.keys,
            self._push,
            least_sequence=surroundings.least_sequence,
            may_advance=surroundings.may_advance,
        )
        self._renumbering = Renumbering(self._publisher, self._fleet)

    def _begin_with(self, remembered: Remembered) -> None:
        """What others know of what was enforced before this start."""
        reader = HeldReader(self._config.keys)
        self._withdrawals = Withdrawals(
            # Whoever has state of its own knows better than the objects.
            NOTHING_REMEMBERED if self._publisher.sequence else remembered,
            reader,
            first_announced=lambda: self._publisher.first_sequence,
        )
        self._first = FirstRevision(
            reader,
            is_asking=lambda: (
                not self._publisher.sequence and not self._withdrawals.remembered.stable
            ),
            all_spoke=lambda: self._fleet.spoke(self._feed.nodes),
        )

    def _move_rollouts(self) -> None:
        """What moves revisions on, and tells of it."""
        self._rollouts = Rollouts(self._store, self._publisher)
        self._reverts = Reverts(self._store)
        self._telling = Telling(
            self._database, outcome=self._outcome, changed=self._surroundings.stands
        )
        self._git = GitContact(self._store)
        self._rollout_task = RolloutTask(
            self._rollouts,
            self._store,
            self._fleet,
            self._surroundings.rollout_requests,
            git=self._git,
            fetch=self.poke,
            inventory=lambda: self._feed.inventory,
            moved=self._moved,
        )

    def _follow_git(self) -> None:
        """What brings revisions."""
        config = self._config
        self._followed = Followed(config.state_dir / "source", config.following)
        self._judging = Judging(
            cluster=config.cluster,
            followed=self._followed,
            feed=self._feed,
            fleet=self._fleet,
            publisher=self._publisher,
        )
        self._passes = Passes(
            self._database,
            self._store,
            followed=self._followed,
            git=self._git,
            checks=CommitChecks(
                self._database,
                self._store,
                self._followed,
                unnamed=self._unnamed,
                noted=self._notifier.wake,
            ),
            judging=self._judging,
            rollouts=self._rollouts,
            publisher=self._publisher,
            reverts=self._reverts,
            telling=self._telling,
            remembered=self._remembered,
            looked=self._check_fleet,
            moved=self._moved,
        )

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
                tasks.create_task(self._feed.run())
                interval = self._config.timestamp_interval_seconds
                tasks.create_task(keep_fresh(self._publisher, interval_seconds=interval))
                tasks.create_task(self._records.run())
                tasks.create_task(self._rollout_task.run())
                tasks.create_task(self._notifier.run())
                tasks.create_task(self._renumbering.run())
                tasks.create_task(self._look_at_git())
        finally:
            for server in beside:
                await server.stop()
            await self._push.stop()
            self._followed.close()
            self._database.close()

    @property
    def judged(self) -> str:
        """The last commit that was judged since the start; empty before the first."""
        return self._passes.judged

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
        return await self._passes.policies_of(revision)

    def account(self) -> Account:
        """How things stand."""
        return account_of(
            self._database,
            self._publisher.publication,
            policies=self._publisher.policy_count,
            agents=self._records.all(),
            nodes=self._feed.nodes,
        )

    def silent_peers(self) -> dict[str, tuple[str, ...]]:
        """Node → peers that its tunnels have not heard for long."""
        return self._fleet.silent()

    def metrics(self) -> tuple[Metric, ...]:
        """The same in numbers."""
        publication = self._publisher.publication
        return reconciler_metrics(
            Standing(
                sequence=self._publisher.sequence,
                commit=publication.revision if publication else "",
                digest=self._publisher.digest,
                expires_at=expiry_of(publication).timestamp() if publication else None,
                rollout=self._rollouts.rollout,
                conditions=fleet.conditions(self._database),
                agents=self._records.all(),
                nodes=len(self._feed.inventory.nodes),
            )
        )

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
        self._passes.poke()

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

    async def _look_at_git(self) -> None:
        patience = self._config.agents_patience_seconds
        await self._feed.until_known(seconds=INVENTORY_PATIENCE_SECONDS)
        await self._first.ask(
            seconds=patience, begins=lambda: self._telling.say(conditions.asking(patience))
        )
        await self._passes.run()

    def _remembered(self) -> Remembered:
        """What was enforced before this start without state, as the objects or else agents know it."""
        known = self._withdrawals.remembered
        return known if known.stable else self._first.remembered

    def _unnamed(self) -> int:
        """The number of what agents hold, while nothing is published that could be compared with it."""
        return 0 if self._publisher.sequence else self.held_sequence

    def _outcome(self) -> tuple[Condition, ...]:
        return conditions.of_rollout(
            judgements.last_judgement(self._database),
            self._rollouts.rollout,
            stable=self._rollouts.stable,
            sequence=self._publisher.sequence,
            differing=self._rollout_task.differing,
            gone_back=self._rollout_task.gone_back,
            revert_trouble=self._reverts.trouble,
        )

    def _moved(self) -> None:
        """A rollout moved, or a pass came through."""
        self._notifier.wake()
        self._telling.say_outcome()

    def _inventory_changed(self, same_nodes: bool) -> None:
        if self._passes.is_refused_for_pods:
            self._passes.judge_again()  # the pods may be there now
        if self._passes.is_refused_for_pods or not same_nodes:
            self._check_fleet()

    def _cannot_serve(self, hello: Hello) -> str:
        """Why an agent that says this must be told nothing now; empty if it can be served."""
        if hello.sequence > self._publisher.sequence and not self._publisher.may_advance:
            return HEARD_ANOTHER  # its refusal would speak against a revision that is innocent
        self._first.hear(hello.held)
        return self._withdrawals.hear(hello.held) if hello.held else ""

    def _feed_node_keys(self, node_keys: NodeKeys) -> None:
        self._push.set_node_keys(node_keys)

    def _check_fleet(self) -> None:
        """Agents or nodes changed: may the rollout move, or a refused revision be enforced now?"""
        self._first.look()
        self._renumbering.look()
        self._rollout_task.wake()
        self._surroundings.stands()
        if self._passes.is_refused and self._judging.fleet_is_another:
            self._passes.judge_again()
            self.poke()


def standalone(config: ReconcilerConfig) -> Reconciler:
    """A reconciler beside an inventory file; raises StalledError if the configuration names none."""
    if config.inventory is None:
        raise StalledError("the configuration names no inventory file")
    return Reconciler(config, Standalone(inventory=config.inventory, state_dir=config.state_dir))
