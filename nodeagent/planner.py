"""Keep the kernel on the plan that everything known calls for.

In:   verified bundles, the local view, the inventory feed, interfaces
Out:  what the Enforcer does; a status
Shell. One plan at a time; inputs that change meanwhile are planned together afterwards.

Holds always:
1. A bundle that cannot be enforced is not taken: its giver learns why, and the last good one stays.
2. What a kernel already enforces is not replaced by a plan made from less than it was made from.
3. Without any bundle, ever, the bootstrap policy is in force.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog

from netpolicy import crash_reports
from netpolicy.bundle import Bundle
from netpolicy.encryption import OFF, Encryption, NodeKey
from netpolicy.errors import RejectedBundle, StalledError
from netpolicy.evidence import NodeEvidence, Role, Shadow
from netpolicy.inventory import AddressEntry
from nodeagent.datapath import DatapathError
from nodeagent.encryption_following import EncryptionFollowing, inputs_of
from nodeagent.encrypts import Encrypts, EncryptsNothing
from nodeagent.endpoints.local_pods import LocalView
from nodeagent.enforcer import Enforcer, PolicyOrigin
from nodeagent.known_inputs import KeptInputs, Known, unless_older, unless_taken_back
from nodeagent.placement import Placement
from nodeagent.plan.bootstrap import BOOTSTRAP_POLICIES
from nodeagent.plan.inputs import PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.plan.redirects import NO_PROXY, ProxySide
from nodeagent.plan.room import AddressRoom, without_room
from nodeagent.plan_status import PlanStatus
from nodeagent.rollout.channels import Channels, InForce, Standing, standing, without_candidate
from nodeagent.rollout.desired import to_remember, with_policies
from nodeagent.shadow_following import followed
from nodeagent.turns import Turns

log = structlog.get_logger()

PLAN_APPLIED: Final = "plan_applied"
ADDRESSES_REFUSED: Final = "addresses_refused"
PLAN_FAILED: Final = "plan_failed"
CANDIDATE_NOT_LOADED: Final = "candidate_not_loaded"
VIEW_PATIENCE_SECONDS: Final = 20.0
KEPT_PLANS: Final = 2
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)


class Planner:
    """Joins the inputs and drives the enforcer."""

    def __init__(
        self,
        enforcer: Enforcer,
        placement: Placement,
        *,
        node: str,
        state_dir: Path,
        admit_local_host: bool,
        channels: Channels | None,
        taken_back: int = 0,
        room: AddressRoom | None = None,
        encrypts: Encrypts | None = None,
        proxy: ProxySide = NO_PROXY,
    ) -> None:
        self._encryption = EncryptionFollowing(
            encrypts or EncryptsNothing(node), retry=self._retry_soon
        )
        self._enforcer = enforcer
        self._placement = placement
        self._node = node
        self._admit_local_host = admit_local_host
        self._room = room
        self._proxy = proxy
        self._kept = KeptInputs(state_dir)
        self._lock = asyncio.Lock()
        self._changed = asyncio.Event()
        self._view_known = asyncio.Event()
        self._interfaces: Mapping[str, int] = {}
        self._pod_like: Mapping[str, int] = {}
        self._found = unless_taken_back(enforcer.active_label, taken_back)
        self._known = self._kept.known_at_start(unless_older(channels, self._found))
        self._enforced: Bundle | None = None
        self._loaded: Mapping[str, Bundle] = {}
        self._plans: tuple[NodePlan, ...] = ()
        self.standing: Standing | None = None
        self.first_plan = asyncio.Event()
        self.placements = Turns()
        """Each time something was put under policy, or could not be."""
        self.status = PlanStatus()

    @property
    def busy(self) -> bool:
        """True while something is being planned, or waits to be."""
        return self._changed.is_set() or self._lock.locked()

    @property
    def knows_peers(self) -> bool:
        """True if the reconciler's inventory feed, or the copy kept of it, says who is elsewhere."""
        return self._known.feed is not None

    @property
    def strangers(self) -> tuple[str, ...]:
        """Interfaces that bear our programs and are no listed pod's: nothing passes there."""
        nobodys = self._placement.attached - self._placement.placed.keys()
        return tuple(sorted(name for name, i in self._interfaces.items() if i in nobodys))

    @property
    def candidate(self) -> Bundle | None:
        """The candidate of the publication in force, whatever this node does with it."""
        return self._known.channels.candidate if self._known.channels else None

    def retry_now(self) -> None:
        """Plan again without waiting for an input or for patience to run out."""
        self._changed.set()

    def _retry_soon(self) -> None:
        asyncio.get_running_loop().call_later(RETRY_SECONDS[1], self._changed.set)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Nothing is planned or placed meanwhile."""
        async with self._lock:
            yield

    async def run(self) -> None:
        """Plan again after each change, and after a failure, with growing patience."""
        failures = 0
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                async with self._lock:
                    await self._replan(self._known)
                failures = 0
            except (DatapathError, StalledError, RejectedBundle) as error:
                self._note_failure(error)
                delay = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                asyncio.get_running_loop().call_later(delay, self._changed.set)

    async def take(self, channels: Channels | None) -> InForce:
        """Enforce a verified publication, or for None the bootstrap policy; return what that came to, or
        raise why it cannot be.
        """
        await self._await_view()
        async with self._lock:
            if channels is None:
                self._found = None  # told to: not for want of the bundle that the kernel enforces
            await self._catch_up()
            before, watched = self._enforcer.active_label, self._watched()
            encrypted = self._encryption_in_force
            try:
                plan = await self._replan(replace(self._known, channels=channels))
            except (DatapathError, StalledError, RejectedBundle) as error:
                self._note_failure(error)
                self._changed.set()
                raise
        role = self.standing.role if self.standing else Role.NONE
        if plan is None:
            raise StalledError("the agent does not know its pods yet", reason="NoInventory")
        return InForce(
            generation_digest=plan.generation.digest,
            role=role,
            candidate_generation_digest=(watched if role is Role.ENFORCING else self._watched()),
            flipped=before is None
            or before.generation_digest != plan.generation.digest
            or encrypted != self._encryption_in_force,
        )

    async def _catch_up(self) -> None:
        """Bring a watched candidate up to date, so that a flip changes nothing but who judges."""
        if self._changed.is_set() and self._watched():
            try:
                await self._replan(self._known)
            except (DatapathError, StalledError, RejectedBundle) as error:
                self._note_failure(error)

    def _watched(self) -> str:
        """The digest of the candidate's generation, if it is watched here."""
        installed = self._enforcer.installed
        if installed is None or installed.plan.inputs.candidate_is_former:
            return ""
        return installed.plan.candidate.digest if installed.plan.candidate else ""

    async def evidence(self) -> NodeEvidence | None:
        """What this node saw of the candidate, if there is one."""
        return await self._seen_of(Shadow.CANDIDATE)

    async def preview_evidence(self) -> NodeEvidence | None:
        """What this node saw of the policies that are not enforced here, if there are any."""
        return await self._seen_of(Shadow.PREVIEW)

    async def _seen_of(self, shadow: Shadow) -> NodeEvidence | None:
        watch = self._enforcer.watches.get(shadow)
        if watch is None:
            return None
        async with self._lock:  # the kernel's counts and the names they are under belong together
            return await asyncio.to_thread(watch.evidence)

    async def take_feed(self, entries: tuple[AddressEntry, ...]) -> None:
        """Use, and keep for the next start, what the reconciler says lies behind each address."""
        if entries == self._known.feed:
            return
        self._known = replace(self._known, feed=entries)
        self._changed.set()
        await self._kept.keep_feed(entries)

    async def take_node_keys(self, keys: tuple[NodeKey, ...]) -> None:
        """Use, and keep for the next start, the public keys of all nodes."""
        if keys == self._known.node_keys:
            return
        self._known = replace(self._known, node_keys=keys)
        self._changed.set()
        await self._kept.keep_node_keys(keys)

    def take_view(self, view: LocalView) -> None:
        """Use what the inventory says of this node."""
        self._known = replace(self._known, view=view)
        self._view_known.set()
        self._changed.set()

    async def take_interfaces(
        self,
        interfaces: Mapping[str, int],
        *,
        pod_like: Mapping[str, int] = MappingProxyType({}),
        lost: Set[int] = frozenset(),
    ) -> None:
        """Attach pods whose interface appeared, and again those that may have `lost` their filters.

        On those that are `pod_like`, yet no listed pod's, nothing passes.
        """
        self._interfaces, self._pod_like = interfaces, pod_like
        try:
            # Not behind a plan that is being made: what may speak already is refused at once.
            self._guard(lost)
            async with self._lock:
                self._placement.distrust(lost)
                self._place()
        except DatapathError as error:
            self._note_failure(error)
            self._changed.set()

    def guard_interfaces(self, interfaces: Mapping[str, int]) -> None:
        """Let nothing pass these (name → index) until somebody is placed behind them.

        Not behind a plan that is being made, either; and whatever stood behind these numbers before: the
        news that an interface went may come after the news that another has its number.
        """
        self._placement.guard(interfaces, lost=frozenset(interfaces.values()))

    async def _await_view(self) -> None:
        try:
            await asyncio.wait_for(self._view_known.wait(), VIEW_PATIENCE_SECONDS)
        except TimeoutError as error:
            raise StalledError(
                "it is not known yet which pods are here", reason="NoInventory"
            ) from error

    async def _replan(self, known: Known) -> NodePlan | None:
        """Plan and enforce; take `known` as known only if that worked. None: too little is known."""
        self._guard()
        if known.view is None or self._awaits_bundle(known):
            self._place()
            return None
        channels, labels = known.channels, known.view.node_labels
        stand = standing(channels, node=self._node, labels=labels) if channels else None
        try:
            return await self._bring_about(known, stand)
        except (StalledError, RejectedBundle) as error:
            if channels is None or stand is None or not self._may_do_without(stand):
                raise
            log.error(CANDIDATE_NOT_LOADED, revision=_candidate_commit(stand), error=str(error))
            rest = without_candidate(channels, labels=labels, error=str(error))
            return await self._bring_about(known, rest)

    async def _bring_about(self, known: Known, stand: Standing | None) -> NodePlan:
        started = time.monotonic()
        await self._encrypt(known, stand)
        installed = self._enforcer.installed
        loaded: Mapping[str, Bundle] = {}
        if stand is not None and known.channels is not None:
            loaded = to_remember(stand, known.channels, self._enforced, loaded=self._loaded)
        inputs = self._inputs(known, stand, loaded)
        origin = _origin(known.channels, stand.enforced if stand else None)
        if (
            installed is not None
            and not self._enforcer.is_torn
            and (installed.plan.inputs, installed.origin) == (inputs, origin)
        ):
            self._note_standing(known, stand, loaded)
            await self._follow_shadows(known, stand, installed.plan)
            self._place()
            return installed.plan
        kept = installed.plan.numbers if installed else None
        before = installed.plan if installed else None
        plan = self._planned_before(inputs)
        if plan is None:
            plan = await asyncio.to_thread(
                plan_node, inputs, kept=kept, before=before, standing=self._proxy.standing
            )
        beside = _origin(known.channels, stand.beside) if stand and stand.beside else None
        flips = await self._enforcer.enforce(plan, origin, candidate=beside)
        self._note_standing(known, stand, loaded)
        self._plans = (plan, *(kept for kept in self._plans if kept is not plan))[:KEPT_PLANS]
        await self._follow_shadows(known, stand, plan)
        self._place()
        self._note_success(plan, origin, flips=flips, seconds=time.monotonic() - started)
        return plan

    @property
    def _encryption_in_force(self) -> Encryption:
        return self._enforced.encryption if self._enforced else OFF

    async def _encrypt(self, known: Known, stand: Standing | None) -> None:
        inputs = inputs_of(
            known.channels,
            stand,
            node=self._node,
            keys=known.node_keys,
            view=known.view,
            feed=known.feed,
        )
        encryption = stand.enforced.encryption if stand else OFF
        is_new = known.channels is not self._known.channels
        await self._encryption.follow(
            inputs, is_new=is_new and encryption != self._encryption_in_force
        )

    def _planned_before(self, inputs: PlanInputs) -> NodePlan | None:
        """The plan of these inputs, if it was made lately: the way back must not wait for planning."""
        return next((plan for plan in self._plans if plan.inputs == inputs), None)

    def _note_standing(
        self, known: Known, stand: Standing | None, loaded: Mapping[str, Bundle]
    ) -> None:
        # Only the publication: view and feed may have changed meanwhile, and are planned next.
        self._known = replace(self._known, channels=known.channels)
        self._enforced = stand.enforced if stand else None
        self._loaded, self.standing = loaded, stand

    async def _follow_shadows(self, known: Known, stand: Standing | None, plan: NodePlan) -> None:
        for shadow, watch in self._enforcer.watches.items():
            found = await asyncio.to_thread(followed, shadow, known.channels, stand, plan)
            await asyncio.to_thread(watch.follow, found)

    def _awaits_bundle(self, known: Known) -> bool:
        """A kernel that enforces a bundle waits for one; bootstrap policy would cut pods off."""
        return known.channels is None and self._found is not None and self._found.sequence > 0

    def _inputs(
        self, known: Known, stand: Standing | None, loaded: Mapping[str, Bundle]
    ) -> PlanInputs:
        view = known.view or LocalView()
        inputs = PlanInputs(
            node=self._node,
            policies=BOOTSTRAP_POLICIES,
            pods=view.pods,
            entries=(*view.entries, *(known.feed or ())),
            node_addresses=view.node_addresses,
            node_labels=view.node_labels,
            admit_local_host=self._admit_local_host,
            room=self._room,
            capabilities=self._proxy.capabilities,
            proxy_ports=self._proxy.ports,
        )
        return inputs if stand is None else with_policies(inputs, stand, loaded=loaded)

    def _may_do_without(self, stand: Standing) -> bool:
        """True if the node would keep what it enforces when it leaves the candidate out."""
        if stand.watched is not None:
            return True
        is_in_force = self._enforced is not None and self._enforced.digest == stand.enforced.digest
        return stand.role is Role.ENFORCING and not is_in_force

    def _place(self) -> None:
        """Put this node's pods under policy, as far as their interfaces are there."""
        if not self._interfaces or self._enforcer.installed is None:
            return
        endpoints = self._enforcer.installed.plan.endpoints
        if not self.first_plan.is_set():
            self._placement.forget_unlisted(endpoints, self._interfaces)
        awaited = self._placement.place(endpoints, self._interfaces)
        if not self.first_plan.is_set():
            self._placement.renew()
        refused = tuple(name for name in awaited if name in self._interfaces)
        if refused:
            asyncio.get_running_loop().call_later(RETRY_SECONDS[0], self._changed.set)
        self.status = replace(self.status, awaited_interfaces=awaited, refused_interfaces=refused)
        self.first_plan.set()
        self.placements.announce()

    def _guard(self, lost: Set[int] = frozenset()) -> None:
        """Refuse everything on interfaces of pods that are not judged yet, or not even listed."""
        pods = self._known.view.pods if self._known.view else ()
        listed = {
            pod.interface: self._interfaces[pod.interface]
            for pod in pods
            if pod.interface in self._interfaces
        }
        self._placement.guard({**self._pod_like, **listed}, lost=lost)

    def _note_success(
        self, plan: NodePlan, origin: PolicyOrigin, *, flips: int, seconds: float
    ) -> None:
        crash_reports.set_revision(origin.commit)
        refused = without_room(plan.addresses)
        if refused:
            log.error(ADDRESSES_REFUSED, addresses=refused, held=len(plan.addresses.exact))
        self.status = replace(
            self.status, applied_at=time.time(), error="", reason="", refused_addresses=refused
        )
        log.info(
            PLAN_APPLIED,
            revision=origin.commit,
            sequence=origin.sequence,
            digest=origin.bundle_digest,
            generation=plan.generation.digest,
            datapath_revision=self._enforcer.revision,
            flips=flips,
            endpoints=len(plan.endpoints),
            entries=len(plan.generation.policy),
            identities=len(plan.identities),
            addresses=len(plan.addresses.exact) + len(plan.addresses.prefixes),
            milliseconds=round(seconds * 1000, 1),
        )

    def _note_failure(self, error: DatapathError | StalledError | RejectedBundle) -> None:
        reason = "DatapathFailed" if isinstance(error, DatapathError) else error.reason
        self.status = replace(self.status, error=str(error), reason=reason)
        self.placements.announce()
        log.error(PLAN_FAILED, reason=reason, error=str(error))


def _candidate_commit(stand: Standing) -> str:
    return stand.watched.revision if stand.watched else stand.enforced.revision


def _origin(channels: Channels | None, bundle: Bundle | None) -> PolicyOrigin:
    if channels is None or bundle is None:
        return PolicyOrigin()
    return PolicyOrigin(
        commit=bundle.revision, sequence=channels.sequence, bundle_digest=bundle.digest
    )
