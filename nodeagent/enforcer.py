"""Bring the kernel from one plan to the next, and know what each of its revisions meant.

In:   NodePlan values
Out:  maps filled, one store; RevisionMeaning for each datapath revision
Shell over the datapath's maps. Decides nothing: `nodeagent.plan.transition` gives the steps.

Holds always:
1. A step that fails leaves the active generation as it was.
2. A revision's meaning is known before any event of it is read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nodeagent.datapath import Datapath, GenerationLabel
from nodeagent.flows.records import RevisionMeaning
from nodeagent.plan.generation import Generation
from nodeagent.plan.node_plan import NodePlan
from nodeagent.plan.transition import (
    Activate,
    PolicySource,
    PruneAddresses,
    Step,
    UpsertAddresses,
    transition,
)

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
