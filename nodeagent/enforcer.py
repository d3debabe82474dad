"""Bring the kernel from one plan to the next, and know what each of its revisions meant.

In:   NodePlan values, the interfaces of this node
Out:  maps filled, one store, filters attached; RevisionMeaning for each datapath revision
Shell over the datapath. Decides nothing: `nodeagent.plan.transition` gives the steps.

Holds always:
1. A step that fails leaves the active generation, and what is attached, as they were.
2. An interface is attached only while a generation is active, and once attached it stays so: a pod that
   is no longer listed is refused everything rather than left alone.
3. A revision's meaning is known before any event of it is read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Final

import structlog

from nodeagent.datapath import Datapath, DatapathError, GenerationLabel
from nodeagent.flows.records import RevisionMeaning
from nodeagent.plan.generation import Generation, LocalEndpoint
from nodeagent.plan.node_plan import NodePlan
from nodeagent.plan.transition import (
    Activate,
    PolicySource,
    PruneAddresses,
    Step,
    UpsertAddresses,
    transition,
)

log = structlog.get_logger()

ENDPOINT_ATTACHED: Final = "endpoint_attached"
ENDPOINT_REATTACHED: Final = "endpoint_reattached"
ENDPOINT_FAILED: Final = "endpoint_failed"
ENDPOINT_GONE: Final = "endpoint_gone"
KEPT_MEANINGS: Final = 64
NO_BUNDLE_DIGEST: Final = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOrigin:
    """Where the policies in force come from. The empty one is the bootstrap policy."""

    commit: str = ""
    sequence: int = 0
    bundle_digest: str = NO_BUNDLE_DIGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What the kernel enforces, as far as this process put it there."""

    plan: NodePlan
    origin: PolicyOrigin


class Enforcer:
    """Owns the datapath's state. One caller at a time."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._meanings: OrderedDict[int, RevisionMeaning] = OrderedDict()
        self._placed: dict[int, LocalEndpoint] = {}
        self._distrusted: set[int] = set()
        self.installed: Installed | None = None
        self.is_torn = False
        """A way to some plan broke off: the kernel holds one generation whole, but maybe other addresses."""

    @property
    def active_label(self) -> GenerationLabel | None:
        """What the kernel says it enforces, whoever put it there."""
        active = self._datapath.control().active
        return None if active is None else self._datapath.slot_label(active)

    @property
    def revision(self) -> int:
        """The datapath's revision."""
        return self._datapath.control().revision

    def meaning(self, revision: int) -> RevisionMeaning | None:
        """What a revision enforced, unless it is long gone."""
        return self._meanings.get(revision)

    async def enforce(self, plan: NodePlan, origin: PolicyOrigin) -> int:
        """Carry out every step to the plan; return how many generations were activated."""
        before = None if self.is_torn else self.installed
        label = self.active_label
        active_digest = label.generation_digest if label else None
        steps = await asyncio.to_thread(
            transition, before.plan if before else None, plan, active_digest=active_digest
        )
        origins = {
            PolicySource.INSTALLED: before.origin if before else origin,
            PolicySource.DESIRED: origin,
        }
        if active_digest == plan.generation.digest:
            self._remember(self.revision, plan.generation, origin)
        self.is_torn = True
        for step in steps:
            await self._perform(step, origins)
        flips = sum(isinstance(step, Activate) for step in steps)
        if not self._is_labelled(origin):
            # The same maps by another bundle: a restart must find the one that is in force.
            await self._activate(plan.generation, origin)
            flips += 1
        self.is_torn = False
        self.installed = Installed(plan=plan, origin=origin)
        return flips

    def _is_labelled(self, origin: PolicyOrigin) -> bool:
        label = self.active_label
        return label is not None and (label.sequence, label.bundle_digest) == (
            origin.sequence,
            origin.bundle_digest,
        )

    async def _perform(self, step: Step, origins: Mapping[PolicySource, PolicyOrigin]) -> None:
        match step:
            case Activate(generation=generation, enforces=source):
                await self._activate(generation, origins[source])
            case UpsertAddresses(addresses=addresses):
                if await asyncio.to_thread(self._datapath.upsert_addresses, addresses):
                    self._judge_again()
            case PruneAddresses(addresses=addresses):
                if await asyncio.to_thread(self._datapath.prune_addresses, addresses):
                    self._judge_again()

    async def _activate(self, generation: Generation, origin: PolicyOrigin) -> None:
        label = GenerationLabel(
            generation_digest=generation.digest,
            bundle_digest=origin.bundle_digest,
            sequence=origin.sequence,
            commit=origin.commit,
        )
        slot = await asyncio.to_thread(self._datapath.fill, generation, label=label)
        # Not in a thread: no event may be read between the store and the note of what it means.
        self._remember(self._datapath.activate(slot), generation, origin)

    def _judge_again(self) -> None:
        """Raise the revision, so that every flow is judged by the addresses as they are now."""
        meaning = self._meanings.get(self.revision)
        revision = self._datapath.bump_revision()
        if meaning is not None:
            self._keep(revision, meaning)

    def _remember(self, revision: int, generation: Generation, origin: PolicyOrigin) -> None:
        self._keep(
            revision,
            RevisionMeaning(attributions=generation.attributions, commit=origin.commit),
        )

    def _keep(self, revision: int, meaning: RevisionMeaning) -> None:
        self._meanings[revision] = meaning
        while len(self._meanings) > KEPT_MEANINGS:
            self._meanings.popitem(last=False)

    # Endpoints -----------------------------------------------------------------------------

    def place_endpoints(self, interfaces: Mapping[str, int]) -> tuple[str, ...]:
        """Attach every endpoint whose interface is there; return the interfaces still awaited.

        One that fails (its interface may just have gone) is logged and awaited; the others go on.
        """
        if self.installed is None:
            return ()
        endpoints = self.installed.plan.endpoints
        wanted = {
            interfaces[endpoint.interface]: endpoint
            for endpoint in endpoints
            if endpoint.interface in interfaces
        }
        for ifindex in sorted(self._placed.keys() - wanted.keys()):
            self._datapath.remove_endpoint(ifindex)
            gone = self._placed.pop(ifindex)
            self._distrusted.discard(ifindex)
            log.info(ENDPOINT_GONE, namespace=gone.namespace, pod=gone.name, ifindex=ifindex)
        for ifindex, endpoint in wanted.items():
            try:
                self._place(ifindex, endpoint)
            except DatapathError as error:
                log.error(
                    ENDPOINT_FAILED,
                    namespace=endpoint.namespace,
                    pod=endpoint.name,
                    interface=endpoint.interface,
                    error=str(error),
                )
        placed = {e for index, e in self._placed.items() if index not in self._distrusted}
        return tuple(sorted(e.interface for e in endpoints if e not in placed))

    def distrust(self, ifindexes: Set[int]) -> None:
        """Attach to these again: somebody took filters off them, or they are other interfaces."""
        self._distrusted |= self._placed.keys() & ifindexes

    def guard(self, ifindexes: Iterable[int]) -> None:
        """Attach to interfaces of pods that cannot be planned yet: unknown ones are refused everything.

        Does nothing until some generation is active; endpoints the kernel knows go on as they were.
        """
        if self._datapath.control().active is not None:
            for ifindex in sorted(ifindexes):
                self._datapath.attach(ifindex)

    def forget_strangers(self, interfaces: Mapping[str, int]) -> None:
        """After a restart: remove endpoints of interfaces that no listed pod has any more."""
        if self.installed is None:
            return
        listed = {endpoint.interface for endpoint in self.installed.plan.endpoints}
        kept = {index for name, index in interfaces.items() if name in listed}
        for ifindex in sorted(set(self._datapath.read_endpoints()) - kept):
            self._datapath.remove_endpoint(ifindex)

    def kernel_agrees(self) -> bool:
        """True if the active maps are the plan's, entry by entry."""
        active = self._datapath.control().active
        if self.installed is None or active is None:
            return False
        wanted = self.installed.plan.generation
        policy, class_of, port_class_of, tables = self._datapath.read_generation(active)
        return (policy, class_of, tables) == (
            wanted.policy,
            wanted.class_of,
            wanted.endpoint_tables,
        ) and port_class_of == wanted.port_class_of

    def is_placed(self, endpoint_id: int) -> bool:
        """True if the endpoint's interface is under policy."""
        return any(
            endpoint.endpoint_id == endpoint_id
            for ifindex, endpoint in self._placed.items()
            if ifindex not in self._distrusted
        )

    def _place(self, ifindex: int, endpoint: LocalEndpoint) -> None:
        before = self._placed.get(ifindex)
        is_lost = ifindex in self._distrusted
        if before == endpoint and not is_lost:
            return
        self._datapath.set_endpoint(endpoint, ifindex)
        if before is None or is_lost:
            self._datapath.attach(ifindex)
            self._distrusted.discard(ifindex)
            log.info(
                ENDPOINT_REATTACHED if is_lost else ENDPOINT_ATTACHED,
                namespace=endpoint.namespace,
                pod=endpoint.name,
                interface=endpoint.interface,
                ifindex=ifindex,
            )
        self._placed[ifindex] = endpoint
