"""Move rollouts on: by the time, by what the fleet saw, and by what people ask for.

In:   evidence and acks, the inventory, what people ask for, what fetches came to, the clock
Out:  rollouts moved; what was seen, saved for people; answers
Shell. It needs neither Git nor the agents to be there: a rollback works without them.

Holds always:
1. A request is handled once: its token is saved with what it led to.
2. A fault in one look is logged and the next look tries again; it ends no other task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.inventory import Inventory
from reconciler.fleet_watch import FleetWatch
from reconciler.rollout.evidence import Evidence
from reconciler.rollout.lifeline import Lifeline, fetch_is_due, lifeline_of
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.verdict import chosen_nodes, judge_rollout
from reconciler.staging.driver import Rollouts
from reconciler.staging.entries import where
from reconciler.staging.git_contact import GitContact
from reconciler.staging.interfaces import Request
from reconciler.staging.sightings import Sightings
from reconciler.state.rollouts import RolloutStore
from reconciler.surroundings import RolloutRequests

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.2
"""How often the clock and the file are looked at."""

REST_SECONDS: Final = 0.1
"""Between two looks, however much the fleet reports; a rollback begins within this of its evidence."""


class RolloutTask:
    """Looks at the current rollout whenever something may have changed."""

    def __init__(
        self,
        rollouts: Rollouts,
        store: RolloutStore,
        fleet: FleetWatch,
        asked: RolloutRequests,
        *,
        git: GitContact,
        fetch: Callable[[], None],
        inventory: Callable[[], Inventory],
        moved: Callable[[], None],
    ) -> None:
        self._rollouts = rollouts
        self._store = store
        self._fleet = fleet
        self._asked = asked
        self._git = git
        self._fetch = fetch
        self._inventory = inventory
        self._moved = moved
        self.differing: tuple[str, ...] = ()
        """Nodes that enforce the last promoted revision by another generation than they observed."""
        self.gone_back: tuple[str, ...] = ()
        """Nodes that went back from the latest publication by themselves, and refuse it now."""
        self._sightings = Sightings(store)
        self._told: tuple[str, str] = ("", "")
        self._untold: dict[Request, str] = {}
        self._fault = ""
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(REST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    def wake(self) -> None:
        """Agents or nodes changed: look soon."""
        self._woken.set()

    def look(self) -> None:
        """Handle what is asked for, then fold in what is due."""
        has_moved = False
        try:
            self._untold |= self._answer()
            has_moved = self._advance()
            self._look_ahead()
            self._fault = ""
        except (TransientError, StalledError) as error:
            self._asked.forget()  # what it asks for was not handled
            if str(error) != self._fault:
                log.error("rollout_held_up", error=str(error))
            self._fault = str(error)
        if has_moved or self._untold:
            self._moved()
        self._tell()

    def _answer(self) -> dict[Request, str]:
        answers = {}
        for request in self._asked.requests():
            if request.token == self._store.handled(request.action):
                continue
            why = self._rollouts.ask(request, now=time.time())
            answers[request] = f"refused: {why}" if why else "done"
            log.info(
                "rollout_request",
                action=request.action,
                revision=request.revision,
                by=request.by,
                reason=request.reason,
                answer=answers[request],
            )
        return answers

    def _advance(self) -> bool:
        rollout = self._rollouts.rollout
        if rollout is None:
            return False
        evidence = self._fleet.seen_of(rollout.digest)
        nodes = self._inventory().nodes
        refusing = self._fleet.refusing(rollout.sequence)
        awaiting: dict[str, str] = {}
        if self._rollouts.brings_encryption:
            refusing = self._fleet.unwell() | refusing
            awaiting = self._fleet.awaiting(chosen_nodes(rollout, nodes))
        reversals = self._fleet.reversals(rollout.sequence) if rollout.sequence else ()
        verdict = judge_rollout(rollout, evidence, nodes, refusing, reversals, awaiting=awaiting)
        names = frozenset(node.name for node in nodes)
        self._sightings.of_candidate(rollout, evidence, verdict, names)
        has_moved = self._rollouts.look(
            verdict,
            fleet_enforces=self._enforces(names, rollout.sequence),
            lifeline=self._lifeline(rollout),
            now=time.time(),
        )
        after = self._rollouts.rollout
        gone_back = tuple(one.node for one in reversals)
        has_news, self.gone_back = gone_back != self.gone_back, gone_back
        if has_moved and after is not None:
            self.differing = ()
            if after.phase is Phase.ROLLED_BACK:
                self._fetch()  # a pass pushes its revert, and Git may be reached again by now
            if after.phase is Phase.PROMOTED:
                self._report_promotion(after, evidence, len(names))
        return has_moved or has_news

    def _enforces(self, nodes: frozenset[str], sequence: int) -> bool:
        """True if all nodes took it. Not while a number may mean another content to an agent than to us."""
        rollouts = self._rollouts
        if self._fleet.knows_better(rollouts.sequence, rollouts.stable_digest):
            return False
        return self._fleet.enforce(nodes, sequence)

    def _look_ahead(self) -> None:
        """Keep for people what the enforced revision would do beyond what it does."""
        seen = self._fleet.previewed(self._rollouts.stable_digest)
        self._sightings.of_preview(self._rollouts.stable, seen, now=time.monotonic())

    def _lifeline(self, rollout: Rollout) -> Lifeline:
        """The way to Git since nodes took the publication; asks for a fetch where one must prove it."""
        flips = self._fleet.taken_at(rollout.sequence) if rollout.sequence else ()
        contact, now = self._git.contact, time.time()
        if fetch_is_due(rollout, contact, flips, now=now):
            self._fetch()
        return lifeline_of(rollout, contact, flips, now=now)

    def _report_promotion(self, rollout: Rollout, evidence: Evidence, nodes: int) -> None:
        log.info(
            "revision_enforced", revision=rollout.revision, sequence=rollout.sequence, nodes=nodes
        )
        self.differing = self._fleet.enforcing_otherwise(evidence)
        if self.differing:
            # What runs there is not what was watched: pods or identities changed meanwhile, or worse.
            log.error(
                "promoted_generation_differs", revision=rollout.revision, nodes=self.differing
            )

    def _tell(self) -> None:
        rollout = self._rollouts.rollout
        stands = (rollout.revision, where(rollout)) if rollout else ("", "")
        if not self._untold and stands == self._told:
            return
        try:
            self._asked.tell(revision=stands[0], phase=stands[1], answers=self._untold)
        except (TransientError, StalledError) as error:
            log.error("rollout_status_not_written", error=str(error))
            return
        self._told, self._untold = stands, {}
