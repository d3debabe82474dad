"""A datapath in memory, with the production interface: what packets would meet after each call.

In:   the calls of `nodeagent.datapath.Datapath`
Out:  `judge`: the answer of the map model over what is held now; `history` of calls; what a test says
      that shadows counted
A call named in `failing` raises DatapathError, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from netpolicy.evidence import Shadow
from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import (
    Control,
    DatapathError,
    Filter,
    GenerationLabel,
    KernelDifference,
    LocalEnd,
)
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.model import Judgement, identity_of, judge

PROGRAMS = {Direction.INGRESS: 1, Direction.EGRESS: 2}


@dataclass(frozen=True, kw_only=True)
class ModelCounters:
    """What the kernel has counted."""

    drops: dict[tuple[int, int], int]
    forwarded: int
    lost_events: int
    untold_refusals: int = 0


@dataclass
class ModelDatapath:
    """One node's kernel."""

    word: Control = field(default_factory=lambda: Control(revision=0))
    slots: dict[int, tuple[Generation, GenerationLabel]] = field(default_factory=dict)
    addresses: AddressPlan = field(default_factory=lambda: AddressPlan(exact={}, prefixes={}))
    endpoints: dict[int, LocalEndpoint] = field(default_factory=dict)
    local_ends: dict[str, LocalEnd] = field(default_factory=dict)
    attached_to: set[int] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    history: list[str] = field(default_factory=list)
    differences: dict[Shadow, tuple[KernelDifference, ...]] = field(default_factory=dict)
    coverage: dict[Shadow, dict[int, int]] = field(default_factory=dict)

    def _call(self, name: str) -> None:
        if name in self.failing:
            raise DatapathError(f"{name}: refused by the test")
        self.history.append(name)

    def control(self) -> Control:
        return self.word

    def fill(
        self, generation: Generation, *, label: GenerationLabel, keep: Set[int] = frozenset()
    ) -> int:
        self._call("fill")
        slot = self.word.spare_slot(keep=keep)
        self.slots[slot] = (generation, label)
        return slot

    def activate(self, slot: int) -> int:
        self._call("activate")
        self.word = self.word.activated(slot)
        return self.word.revision

    def set_shadows(self, *, candidate: int | None, preview: int | None) -> int:
        self._call("set_shadows")
        for slot in {candidate, preview} - {None}:
            if slot not in self.slots:
                raise DatapathError(f"slot {slot} holds no whole generation")
        if (candidate, preview) != (self.word.candidate, self.word.preview):
            self.word = self.word.shadowed(candidate=candidate, preview=preview)
        return self.word.revision

    def read_differences(
        self, shadow: Shadow, *, slot: int | None = None
    ) -> tuple[KernelDifference, ...]:
        return self.differences.get(shadow, ())

    def read_coverage(self, shadow: Shadow, *, slot: int | None = None) -> dict[int, int]:
        return self.coverage.get(shadow, {})

    def lost_differences(self, shadow: Shadow, *, slot: int | None = None) -> int:
        return 0

    def tunnelled(self) -> None:
        """Nothing is encrypted here."""

    def bump_revision(self) -> int:
        self._call("bump_revision")
        self.word = self.word.bumped()
        return self.word.revision

    def relabel(self, slot: int, label: GenerationLabel) -> None:
        self._call("relabel")
        self.slots[slot] = (self.slots[slot][0], label)

    def labels(self) -> dict[int, GenerationLabel]:
        return {slot: label for slot, (_, label) in self.slots.items()}

    def slot_label(self, slot: int) -> GenerationLabel | None:
        return self.slots[slot][1] if slot in self.slots else None

    def set_endpoint(self, endpoint: LocalEndpoint, ifindex: int) -> None:
        self._call("set_endpoint")
        self.endpoints[ifindex] = endpoint

    def remove_endpoint(self, ifindex: int) -> None:
        self._call("remove_endpoint")
        self.endpoints.pop(ifindex, None)

    def set_local_ends(self, ends: Mapping[str, LocalEnd]) -> None:
        self._call("set_local_ends")
        self.local_ends = dict(ends)

    def read_endpoints(self) -> dict[int, LocalEndpoint]:
        return dict(self.endpoints)

    def upsert_addresses(self, plan: AddressPlan, touched: Set[str] | None = None) -> int:
        self._call("upsert_addresses")
        before = self.addresses
        if touched is not None:
            plan = AddressPlan(
                exact={a: plan.exact[a] for a in touched & plan.exact.keys()}, prefixes={}
            )
        self.addresses = AddressPlan(
            exact={**before.exact, **plan.exact}, prefixes={**before.prefixes, **plan.prefixes}
        )
        return _differences(before, self.addresses)

    def prune_addresses(self, plan: AddressPlan, touched: Set[str] | None = None) -> int:
        self._call("prune_addresses")
        before = self.addresses
        if touched is None:
            prefixes = {p: i for p, i in before.prefixes.items() if p in plan.prefixes}
            gone = before.exact.keys() - plan.exact.keys()
        else:
            prefixes, gone = before.prefixes, touched - plan.exact.keys()
        self.addresses = AddressPlan(
            exact={a: i for a, i in before.exact.items() if a not in gone}, prefixes=prefixes
        )
        return _differences(before, self.addresses)

    def attach(self, ifindex: int) -> None:
        self._call("attach")
        self.attached_to.add(ifindex)

    def attached(self) -> tuple[Filter, ...]:
        return tuple(
            Filter(ifindex=ifindex, direction=way, kind="bpf", program_id=PROGRAMS[way])
            for ifindex in sorted(self.attached_to)
            for way in Direction
        )

    def program_ids(self) -> dict[Direction, int]:
        return PROGRAMS

    def read_generation(self, slot: int) -> tuple[object, object, object, object]:
        held = self.slots[slot][0]
        return held.policy, held.class_of, held.port_class_of, held.endpoint_tables

    def counters(self) -> ModelCounters:
        return ModelCounters(drops={(133, 0): 4}, forwarded=9, lost_events=2)

    @property
    def active(self) -> Generation | None:
        """The generation that packets are judged by."""
        return None if self.word.active is None else self.slots[self.word.active][0]

    def judge(self, ifindex: int, direction: Direction, peer: str, port: int) -> Judgement | None:
        """The answer for a TCP packet; None where no filter or no generation stands."""
        if ifindex not in self.attached_to or self.active is None:
            return None
        return judge(
            self.active,
            endpoint_id=self.endpoints[ifindex].endpoint_id,
            direction=direction,
            peer_identity=identity_of(self.addresses, peer),
            protocol=Protocol.TCP,
            port=port,
        )


def _differences(before: AddressPlan, after: AddressPlan) -> int:
    return len(
        {*before.exact.items(), *before.prefixes.items()}
        ^ {*after.exact.items(), *after.prefixes.items()}
    )
