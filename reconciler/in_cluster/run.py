"""Run a replica: watch, try to lead, reconcile while leading, pass agents on while not.

In:   ReconcilerConfig, ClusterOptions
Out:  what the reconciler does in standalone mode, and the statuses of our objects
Shell: joins the API server's half with the reconciler. Implements its surroundings.

Holds always:
1. A replica publishes only in its own term, with numbers of that term. One that cannot reach the API server,
   so that its term may be over, publishes only what was enforced before.
2. State from before another replica led is not trusted: it is put aside, and what is enforced is
   brought back from Git and the objects.
3. Whatever this replica cannot do, agents go on enforcing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any, Final

import structlog
from prometheus_client.core import Metric

from netpolicy.errors import TransientError
from netpolicy.inventory import InventoryStep
from netpolicy.kube_api import KubeApi
from netpolicy.status_pages import StatusPages
from reconciler.app import Reconciler
from reconciler.bootstrap import BootstrapConfig, BootstrapServer
from reconciler.bootstrap.reviews import TokenReviews
from reconciler.bootstrap.speaker import AgentAccount
from reconciler.cluster.forward import Forwarder
from reconciler.cluster.inventory import ClusterInventory
from reconciler.cluster.lease import Term, least_number
from reconciler.cluster.lease_keeper import LeaseKeeper
from reconciler.config import ReconcilerConfig
from reconciler.in_cluster.following_task import FollowingTask
from reconciler.in_cluster.metrics import replica_metrics
from reconciler.in_cluster.mirror import Mirror
from reconciler.in_cluster.objects import OwnObjects
from reconciler.in_cluster.reporter import Reporter
from reconciler.in_cluster.requests import AnnotationRequests, RequestsOfBoth
from reconciler.in_cluster.term_state import put_state_aside, trust_state
from reconciler.in_cluster.waiting import Lack, Needed, Waiting
from reconciler.server_certificate import ends_at
from reconciler.sign.certificates import certify_node
from reconciler.staging.request_file import RolloutFile
from reconciler.surroundings import Remembered

log = structlog.get_logger()

NOT_REMEMBERED: Final = "objects_not_read"
RETRY_SECONDS: Final = 5.0

LOOK_ELSEWHERE_SECONDS: Final = 1.0
LOOK_ELSEWHERE_SHARE: Final = 1 / 60
"""So an agent leaves a leader that is cut off after a minute on average, and few are on their way at once."""

AGENT_ACCOUNT: Final = "tidegate-nodeagent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Which cluster, and who this replica is in it: a name no other has, and where others reach it."""

    namespace: str
    identity: str
    address: str
    kubeconfig: Path | None = None


async def run_in_cluster(config: ReconcilerConfig, options: ClusterOptions) -> None:
    """Run until cancelled."""
    api = await KubeApi.connect(options.kubeconfig)
    try:
        await Replica(api, config, options).run()
    finally:
        await api.close()


class Replica:
    """One of the replicas, and the surroundings of its reconciler while it leads."""

    def __init__(self, api: KubeApi, config: ReconcilerConfig, options: ClusterOptions) -> None:
        self._api = api
        self._config = config
        self._options = options
        self._inventory = ClusterInventory(api, cluster=config.cluster)
        self._objects = OwnObjects(api, options.namespace, changed=self._look_at_objects)
        self._requests = AnnotationRequests(
            lambda: tuple(self._objects.rollouts.cache.items.values()), told=self.stands
        )
        self._asked = RequestsOfBoth(self._requests, RolloutFile(config.state_dir))
        self._reporter = Reporter(
            api,
            repositories=lambda: self._objects.repositories.cache.items,
            rollouts=lambda: self._objects.rollouts.cache.items,
            requests=self._requests,
            instance=options.identity,
        )
        self._follower = FollowingTask(
            api,
            options.namespace,
            config.state_dir,
            in_force=lambda: self._objects.repository,
            reporter=self._reporter,
        )
        self._keeper = LeaseKeeper(
            api, options.namespace, options.identity, address=options.address, used=self._used
        )
        self._waiting = Waiting(self._lacks)
        self._reconciler: Reconciler | None = None
        self._announced = 0
        self._mirror: Mirror | None = None

    async def run(self) -> None:
        """Run until cancelled."""
        async with AsyncExitStack() as started:
            for server in (self._pages(), self._bootstrap()):
                if server is not None:
                    await server.start()
                    started.push_async_callback(server.stop)
            async with asyncio.TaskGroup() as tasks:
                for watch in self._objects.watches:
                    tasks.create_task(watch.run())
                tasks.create_task(self._inventory.run())
                tasks.create_task(self._keeper.run())
                tasks.create_task(self._take_turns())
                tasks.create_task(self._waiting.run())

    @property
    def rollout_requests(self) -> RequestsOfBoth:
        """Annotations of PolicyRollout objects, and the file of whoever can reach this replica alone."""
        return self._asked

    def inventory_steps(self) -> AsyncIterator[InventoryStep]:
        """What the API server has."""
        return self._inventory.steps()

    def least_sequence(self) -> int:
        """A number of this replica's term; raises TransientError while there is none."""
        return least_number(
            self._keeper.last_term,
            announced=self._sequence(),
            held=self._held(),
            is_certain=self.may_advance(),
        )

    def may_advance(self) -> bool:
        """True while it holds the Lease for certain."""
        return self._keeper.term is not None

    def stands(self) -> None:
        """Something changed: let the objects say so."""
        self._reporter.wake()
        self._wake_mirror()

    async def _take_turns(self) -> None:
        while True:
            async with AsyncExitStack() as forwarding:
                for forwarder in self._forwarders():
                    await forwarder.start()
                    forwarding.push_async_callback(forwarder.stop)
                await self._objects.until_read()
                term = await self._keeper.until_leading()
            await self._lead(term)

    def _forwarders(self) -> tuple[Forwarder, ...]:
        """While another leads: agents are passed on to it, and what Git hosts tell."""
        push = Forwarder(self._config.push.listen, lambda: self._keeper.leader_address)
        webhook = self._config.webhook
        if webhook is None:
            return (push,)
        port = webhook.listen.rpartition(":")[2]
        return push, Forwarder(webhook.listen, lambda: _at_port(self._keeper.leader_address, port))

    async def _lead(self, term: Term) -> None:
        """Reconcile until this replica is deposed; anew if it announced what had been taken back."""
        trust_state(self._config.state_dir, term)
        try:
            remembered: Remembered | None = await self._objects.remembered()
        except TransientError as error:
            log.warning(NOT_REMEMBERED, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)
            return
        while remembered is not None:
            remembered = await self._lead_with(term, remembered)
            if remembered is not None:
                put_state_aside(self._config.state_dir)

    async def _lead_with(self, term: Term, remembered: Remembered) -> Remembered | None:
        """Reconcile; what to begin anew with, or None when the term is over."""
        config = replace(self._config, metrics="")  # the replica has pages of its own
        reconciler = Reconciler(config, self, remembered=remembered)
        self._reconciler = reconciler
        mirror = self._mirror = Mirror(
            self._api,
            self._options.namespace,
            repository=lambda: self._objects.repository,
            told=lambda: self._reporter.mirror_stands(mirror.standing),
        )
        log.info("term_begins", token=term.token, first=term.first)
        try:
            await _first_of(
                reconciler.run(),
                self._reporter.run(reconciler),
                self._follower.run(reconciler),
                mirror.run(reconciler),
                self._keeper.until_deposed(term),
                self._let_agents_look_elsewhere(reconciler),
                reconciler.until_overruled(),
            )
        finally:
            self._announced = max(self._announced, reconciler.sequence)
            self._reconciler, self._mirror = None, None
            self._reporter.mirror_stands(None)
            log.info("term_ends", token=term.token)
        return reconciler.overruled_by

    async def _let_agents_look_elsewhere(self, reconciler: Reconciler) -> None:
        """While it is cut off: end a few agents' streams at a time. They dial again, and find its successor
        if there is one, else this replica."""
        while True:
            await asyncio.sleep(LOOK_ELSEWHERE_SECONDS)
            if not self.may_advance():
                reconciler.end_streams(LOOK_ELSEWHERE_SHARE)

    def _look_at_objects(self) -> None:
        self._requests.changed()
        self._follower.look()
        self._reporter.wake()
        self._wake_mirror()

    def _wake_mirror(self) -> None:
        if self._mirror is not None:
            self._mirror.wake()

    def _sequence(self) -> int:
        announced = self._reconciler.sequence if self._reconciler is not None else 0
        return max(announced, self._announced)

    def _used(self) -> int:
        """The highest number that may have been published; without state, numbers begin with the time."""
        return max(self._sequence(), self._held(), int(time()))

    def _held(self) -> int:
        """The highest number that an agent says it holds."""
        return self._reconciler.held_sequence if self._reconciler is not None else 0

    def _bootstrap(self) -> BootstrapServer | None:
        """Every replica certifies agents: that changes nothing that two could disagree on."""
        if not self._config.bootstrap:
            return None
        account = AgentAccount(namespace=self._options.namespace, name=AGENT_ACCOUNT)
        push = self._config.push
        return BootstrapServer(
            BootstrapConfig(
                listen=self._config.bootstrap, certificate=push.certificate, key=push.key
            ),
            speakers=TokenReviews(self._api, account),
            certify=lambda node, key, now, life: certify_node(
                self._config.keys, node, key, now=now, lifetime=life
            ),
        )

    def _pages(self) -> StatusPages | None:
        if not self._config.metrics:
            return None
        return StatusPages(
            self._config.metrics,
            metrics=self._metrics,
            is_ready=lambda: self._lacks() is None,
            why_not=lambda: self._waiting.words,
        )

    def _lacks(self) -> Lack | None:
        """What is missing before agents can be served here, or by the leader that they are passed on to."""
        if self._reconciler is not None or self._keeper.leader_address:
            return None
        nobody = self._keeper.trouble or "no replica is known to hold the Lease"
        return self._objects.unread or Lack(of=Needed.LEADER, why=nobody)

    def _certificates(self) -> dict[str, float]:
        """When those end that agents see, and that agents' own are signed with."""
        push = self._config.push
        found = {"server": ends_at(push.certificate), "authority": ends_at(push.client_ca)}
        return {name: at for name, at in found.items() if at is not None}

    def _metrics(self) -> tuple[Metric, ...]:
        """The replica's own, and while it leads those of the fleet."""
        own = replica_metrics(
            leads=self._reconciler is not None and self.may_advance(),
            followed={
                watch.resource: watch.is_followed
                for watch in (*self._objects.watches, *self._inventory.watches)
            },
            certificates=self._certificates(),
            waits_since=self._waiting.since,
        )
        return own if self._reconciler is None else (*own, *self._reconciler.metrics())


def _at_port(address: str, port: str) -> str:
    """The same host at another port; nowhere stays nowhere."""
    host = address.rpartition(":")[0]
    return f"{host}:{port}" if host else ""


async def _first_of(*parts: Coroutine[Any, Any, None]) -> None:
    """Run them together until one ends; its fault, if it had one, is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
