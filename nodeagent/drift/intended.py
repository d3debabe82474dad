"""What the kernel should hold, from what the agent's parts say they put there.

In:   Enforcer, Placement, Datapath
Out:  Intended
Shell over those parts; writes nothing.

Holds always:
1. A generation's fingerprints come from its plan, not from the kernel. Only of a slot that a process
   before this one filled, with a generation that is not planned now, is the first reading taken for true.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nodeagent.datapath import Control, Datapath, GenerationLabel, Holdings, LocalEnd
from nodeagent.datapath.fingerprints import Fingerprints, of_addresses, of_generation
from nodeagent.datapath.local_ends import pack_ends
from nodeagent.datapath.peers import pack_endpoint
from nodeagent.drift.compare import Intended
from nodeagent.enforcer import Enforcer
from nodeagent.placement import Placement
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.node_plan import NodePlan

REMEMBERED_GENERATIONS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What the parts say at one moment: references only, so that noting costs nothing."""

    control: Control
    labels: Mapping[int, GenerationLabel]
    generations: tuple[Generation, ...]
    addresses: AddressPlan | None
    endpoints: Mapping[int, LocalEndpoint]
    local_ends: Mapping[str, LocalEnd]
    attached: frozenset[int]


class IntendedState:
    """Remembers fingerprints of generations by their digest."""

    def __init__(self, datapath: Datapath, enforcer: Enforcer, placement: Placement) -> None:
        self._datapath = datapath
        self._enforcer = enforcer
        self._placement = placement
        self._of_generation: OrderedDict[str, Fingerprints] = OrderedDict()
        self._first_read: OrderedDict[str, Fingerprints] = OrderedDict()
        self._of_addresses: tuple[AddressPlan, Fingerprints] | None = None
        self._programs = datapath.program_ids()
        self._pins = datapath.intended_pins()

    def note(self) -> Noted:
        """What should be held now."""
        installed = None if self._enforcer.is_torn else self._enforcer.installed
        return Noted(
            control=self._datapath.intended_control,
            labels=self._datapath.intended_labels,
            generations=_generations(installed.plan) if installed else (),
            addresses=installed.plan.addresses if installed else None,
            endpoints=dict(self._placement.endpoints),
            local_ends=self._placement.local_ends,
            attached=self._placement.attached,
        )

    def complete(self, noted: Noted, held: Holdings) -> Intended:
        """Fingerprints for what was noted. Slow where a plan is new: for a thread."""
        for generation in noted.generations:
            if generation.digest not in self._of_generation:
                self._of_generation[generation.digest] = of_generation(generation)
        slots = {
            slot: self._fingerprints(label.generation_digest, held.slots.get(slot, {}))
            for slot, label in noted.labels.items()
        }
        for known in (self._of_generation, self._first_read):
            while len(known) > REMEMBERED_GENERATIONS:
                known.popitem(last=False)
        return Intended(
            control=noted.control,
            labels=noted.labels,
            slots=slots,
            addresses=self._addresses(noted.addresses),
            endpoints={i: pack_endpoint(e) for i, e in noted.endpoints.items()},
            local_ends=_still_there(noted.local_ends, held),
            attached=noted.attached,
            programs=self._programs,
            pins=self._pins,
        )

    def _fingerprints(self, digest: str, held: Fingerprints) -> Fingerprints:
        planned = self._of_generation.get(digest)
        return planned if planned is not None else self._first_read.setdefault(digest, held)

    def _addresses(self, plan: AddressPlan | None) -> Fingerprints | None:
        if plan is None:
            return None
        if self._of_addresses is None or self._of_addresses[0] is not plan:
            self._of_addresses = (plan, of_addresses(plan))
        return self._of_addresses[1]


def _still_there(ends: Mapping[str, LocalEnd], held: Holdings) -> Mapping[bytes, bytes]:
    """The kernel forgets those whose interface is gone."""
    return pack_ends({a: end for a, end in ends.items() if end.ifindex in held.interfaces})


def _generations(plan: NodePlan) -> tuple[Generation, ...]:
    planned = (plan.generation, plan.candidate, plan.preview)
    return tuple(generation for generation in planned if generation is not None)
