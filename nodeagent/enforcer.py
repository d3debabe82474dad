"""Bring the kernel from one plan to the next, and know what each of its revisions meant.

In:   NodePlan values
Out:  maps filled, one store; RevisionMeaning for each datapath revision
Shell over the datapath's maps. Decides nothing: `nodeagent.plan.transition` gives the steps.

Holds always:
1. A step that fails leaves the active generation as it was.
2. A revision's meaning is known before any event of it is read.
3. The proxy serves a plan's listeners before the first step to it, and those that the plan leaves behind
   until after the last.
4. A generation that is loaded already is never filled again: what comes into force by a promotion or a
   rollback is, byte for byte, what was observed or enforced before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from netpolicy.evidence import ASKED, Shadow
from nodeagent.datapath import Datapath, GenerationLabel, Tunnelled
from nodeagent.flows.naming import RevisionMeaning
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
from nodeagent.proxying import Proxying
from nodeagent.shadow_watch import ShadowWatch

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


Shadows = Mapping[Shadow, tuple[Generation, PolicyOrigin]]


class Enforcer:
    """Owns the datapath's state. One caller at a time."""

    def __init__(
        self,
        datapath: Datapath,
        watches: Mapping[Shadow, ShadowWatch] = MappingProxyType({}),
        *,
        proxy: Proxying | None = None,
    ) -> None:
        self._datapath = datapath
        self._proxy = proxy
        self.meanings: Mapping[int, RevisionMeaning] = {}
        """What the last revisions enforced; replaced, never changed, so that it may be kept."""
        self.watches = watches
        """Who counts what each shadow would do."""
        self._shadow_meanings: Mapping[Shadow, RevisionMeaning] = {}
        self._wanted: frozenset[str] = frozenset()
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

    def tunnelled(self) -> Tunnelled | None:
        """Who says of a connection whether it travels encrypted; None: none does."""
        return self._datapath.tunnelled()

    async def enforce(
        self, plan: NodePlan, origin: PolicyOrigin, *, candidate: PolicyOrigin | None = None
    ) -> int:
        """Carry out every step to the plan; return how many generations were activated.

        `candidate`: where the policies of the plan's candidate come from, if it has one.
        """
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
        shadows = _shadows_of(plan, origin, candidate)
        self._wanted = frozenset(
            generation.digest for generation in (plan.generation, *(g for g, _ in shadows.values()))
        )
        if active_digest == plan.generation.digest:
            self._remember(self.revision, plan.generation, origin)
        if self._proxy is not None:
            await self._proxy.prepare(plan.listeners)
        self.is_torn = True
        leaving = self._leaving(shadows)
        if leaving or any(not isinstance(step, Activate) for step in steps):
            self._suspend_shadows(shadows)
        for shadow in leaving & self.watches.keys():
            # Only now that no packet asks it are its counts the last.
            await asyncio.to_thread(self.watches[shadow].settle)
        for step in steps:
            await self._perform(step, origins)
        self._relabel(origin)
        await self._watch(
            shadows, plan.generation, origin, is_former=plan.inputs.candidate_is_former
        )
        if self._proxy is not None:
            await self._proxy.retire(plan.listeners)
        self.is_torn = False
        self.installed = Installed(plan=plan, origin=origin)
        return sum(isinstance(step, Activate) for step in steps)

    async def _perform(self, step: Step, origins: Mapping[PolicySource, PolicyOrigin]) -> None:
        match step:
            case Activate(generation=generation, enforces=source):
                await self._activate(generation, origins[source])
            case UpsertAddresses(addresses=addresses, touched=touched):
                if await asyncio.to_thread(self._datapath.upsert_addresses, addresses, touched):
                    self._judge_again()
            case PruneAddresses(addresses=addresses, touched=touched):
                if await asyncio.to_thread(self._datapath.prune_addresses, addresses, touched):
                    self._judge_again()

    async def _activate(self, generation: Generation, origin: PolicyOrigin) -> None:
        label = _label(generation, origin)
        slot = self._loaded(generation, bundle_digest=origin.bundle_digest)
        if slot is None:
            slot = self._loaded(generation)  # as another bundle's: the same maps
        if slot is None:
            slot = await self._fill(generation, label)
        else:
            # What was observed, or was in force before, is still there: it comes into force as it is.
            self._datapath.relabel(slot, label)
        # Not in a thread: no event may be read between the store and the note of what it means.
        self._remember(self._datapath.activate(slot), generation, origin)

    async def _fill(
        self, generation: Generation, label: GenerationLabel, *, keep: Set[int] = frozenset()
    ) -> int:
        """Load a generation beside all that is in use, or will be used by this change."""
        wanted = {
            slot
            for slot, held in self._datapath.labels().items()
            if held.generation_digest in self._wanted
        }
        return await asyncio.to_thread(
            self._datapath.fill, generation, label=label, keep=wanted | keep
        )

    def _loaded(self, generation: Generation, *, bundle_digest: str = "") -> int | None:
        """A slot beside the active one that holds this generation (as that bundle's) already."""
        active = self._datapath.control().active
        return next(
            (
                slot
                for slot, label in self._datapath.labels().items()
                if slot != active
                and label.generation_digest == generation.digest
                and bundle_digest in ("", label.bundle_digest)
            ),
            None,
        )

    def _relabel(self, origin: PolicyOrigin) -> None:
        """The same maps by another publication: a restart must find the one that is in force."""
        active, label = self._datapath.control().active, self.active_label
        if active is None or label is None:
            return
        named = (label.sequence, label.bundle_digest, label.commit)
        if named != (origin.sequence, origin.bundle_digest, origin.commit):
            self._datapath.relabel(
                active,
                replace(
                    label,
                    sequence=origin.sequence,
                    bundle_digest=origin.bundle_digest,
                    commit=origin.commit,
                ),
            )

    # Shadows -------------------------------------------------------------------------------

    def _leaving(self, shadows: Shadows) -> frozenset[Shadow]:
        """Those that are loaded and will be filled anew, forgotten or enforced."""
        control = self._datapath.control()
        return frozenset(
            shadow
            for shadow in ASKED
            if (slot := control.slot_of(shadow)) is not None
            and not self._is_held(slot, shadows.get(shadow))
        )

    def _suspend_shadows(self, shadows: Shadows) -> None:
        """Ask nothing that will be replaced, or that does not know the identities to come."""
        control = self._datapath.control()
        kept = {
            shadow: slot
            for shadow in ASKED
            if (slot := control.slot_of(shadow)) is not None
            and self._is_held(slot, shadows.get(shadow))
        }
        self._shadow_meanings = {
            shadow: meaning for shadow, meaning in self._shadow_meanings.items() if shadow in kept
        }
        self._set_shadows(kept)

    async def _watch(
        self, shadows: Shadows, generation: Generation, origin: PolicyOrigin, *, is_former: bool
    ) -> None:
        """Have flows judged by the plan's shadows too; what is loaded already stays, counts and all."""
        slots: dict[Shadow, int] = {}
        for shadow, (watched, source) in shadows.items():
            slot = self._loaded(watched, bundle_digest=source.bundle_digest)
            if slot is None or slot in slots.values():
                keep = frozenset(slots.values())
                slot = await self._fill(watched, _label(watched, source), keep=keep)
            slots[shadow] = slot
        self._shadow_meanings = {
            shadow: RevisionMeaning(
                attributions=watched.attributions,
                commit=source.commit,
                is_former=is_former and shadow is Shadow.CANDIDATE,
            )
            for shadow, (watched, source) in shadows.items()
        }
        self._set_shadows(slots)
        self._remember(self.revision, generation, origin)

    def _set_shadows(self, slots: Mapping[Shadow, int]) -> None:
        meaning = self.meanings.get(self.revision)
        revision = self._datapath.set_shadows(
            candidate=slots.get(Shadow.CANDIDATE), preview=slots.get(Shadow.PREVIEW)
        )
        if meaning is not None:
            self._keep(revision, replace(meaning, shadows=dict(self._shadow_meanings)))

    def _is_held(self, slot: int, wanted: tuple[Generation, PolicyOrigin] | None) -> bool:
        label = self._datapath.slot_label(slot)
        return (
            wanted is not None
            and label is not None
            and (label.generation_digest, label.bundle_digest)
            == (wanted[0].digest, wanted[1].bundle_digest)
        )

    # Repairs: what is in force is put there again -----------------------------------------

    async def restore_generation(self) -> None:
        """Fill a slot anew and put it in force, in place of one that somebody wrote to."""
        if self.installed is None:
            return
        generation, origin = self.installed.plan.generation, self.installed.origin
        slot = await self._fill(generation, _label(generation, origin))
        self._remember(self._datapath.activate(slot), generation, origin)

    async def restore_addresses(self) -> None:
        """Write what is missing or different, remove what is too much, and judge every flow again."""
        if self.installed is not None:
            addresses = self.installed.plan.addresses
            await self._perform(UpsertAddresses(addresses), {})
            await self._perform(PruneAddresses(addresses), {})

    def restore_control(self) -> None:
        """Store the word again that was stored last."""
        meaning = self.meanings.get(self._datapath.intended_control.revision)
        self._keep_if_known(self._datapath.restore_control(), meaning)

    def drop_slots(self, slots: Set[int]) -> None:
        """Do without what else these slots hold; shadows among them are to be planned again."""
        control = self._datapath.intended_control
        meaning = self.meanings.get(control.revision)
        self._keep_if_known(self._datapath.drop_slots(slots), meaning)
        if {control.candidate, control.preview} & slots:
            self.is_torn = True

    # Meanings ------------------------------------------------------------------------------

    def _judge_again(self) -> None:
        """Raise the revision, so that every flow is judged by the addresses as they are now."""
        meaning = self.meanings.get(self.revision)
        self._keep_if_known(self._datapath.bump_revision(), meaning)

    def _remember(self, revision: int, generation: Generation, origin: PolicyOrigin) -> None:
        self._keep(
            revision,
            RevisionMeaning(
                attributions=generation.attributions,
                commit=origin.commit,
                shadows=dict(self._shadow_meanings),
            ),
        )

    def _keep_if_known(self, revision: int, meaning: RevisionMeaning | None) -> None:
        if meaning is not None:
            self._keep(revision, meaning)

    def _keep(self, revision: int, meaning: RevisionMeaning) -> None:
        older = ((r, m) for r, m in self.meanings.items() if r != revision)
        self.meanings = dict([*older, (revision, meaning)][-KEPT_MEANINGS:])

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


def _shadows_of(plan: NodePlan, origin: PolicyOrigin, candidate: PolicyOrigin | None) -> Shadows:
    """What the plan has judged beside what it enforces, and where that comes from."""
    shadows: dict[Shadow, tuple[Generation, PolicyOrigin]] = {}
    if plan.candidate is not None and candidate is not None:
        shadows[Shadow.CANDIDATE] = (plan.candidate, candidate)
    if plan.preview is not None:
        shadows[Shadow.PREVIEW] = (plan.preview, origin)
    return shadows


def _label(generation: Generation, origin: PolicyOrigin) -> GenerationLabel:
    return GenerationLabel(
        generation_digest=generation.digest,
        bundle_digest=origin.bundle_digest,
        sequence=origin.sequence,
        commit=origin.commit,
    )
