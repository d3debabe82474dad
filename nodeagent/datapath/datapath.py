"""The datapath as the agent works with it: pinned maps and programs, nothing of its own.

In:   generations, addresses, endpoints
Out:  what every packet on this node is judged by; events of what happened
Shell over the kernel. One writer a node; readers may be many.

Holds always:
1. A generation comes into force by one store, after it is whole.
2. A write that fails leaves what is in force as it was, and raises DatapathError.
3. Closing it, or the death of its process, changes nothing for a packet.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from functools import partial

from netpolicy.evidence import ASKED, Shadow
from netpolicy.rules import Direction
from nodeagent.datapath import (
    abi_numbers,
    attach,
    encryption_maps,
    flow_table,
    generations,
    holdings,
    libbpf,
    local_ends,
    peers,
    pins,
    shadows,
    tcx,
)
from nodeagent.datapath.collector import Collected, FlowCollector
from nodeagent.datapath.control import Control, ControlWord
from nodeagent.datapath.encryption_maps import WireMode
from nodeagent.datapath.endings import FlowOwner
from nodeagent.datapath.endpoint_map import EndpointMap
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.events import EventReader
from nodeagent.datapath.filters import GUARDS, OWNERS, Filter
from nodeagent.datapath.fingerprints import FingerprintReader
from nodeagent.datapath.flow_table import ConntrackEntry, Counters
from nodeagent.datapath.generations import GenerationLabel, GenerationMaps, KernelGeneration
from nodeagent.datapath.holdings import HeldMaps, Holdings
from nodeagent.datapath.local_ends import LocalEnd
from nodeagent.datapath.opened import OpenedPins
from nodeagent.datapath.peers import KernelEndpoint
from nodeagent.datapath.pins import DatapathConfig, Version
from nodeagent.datapath.proxy_way import ProxyWay
from nodeagent.datapath.shadows import KernelDifference, ShadowMaps
from nodeagent.datapath.tunnelled import Tunnelled
from nodeagent.datapath.undecided import Undecided
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from nodeagent.plan.places import Place

_NO_PACKET = bytes(14)
"""The least that the kernel takes for one: a bare Ethernet header."""


class Datapath:
    """Works on pins only; `ensure_loaded` makes them."""

    def __init__(self, config: DatapathConfig, version: Version, opened: OpenedPins) -> None:
        self._config = config
        self._version = version
        self._opened = opened
        self._maps = opened.maps
        self._generations = GenerationMaps(
            policy=opened.maps["policy"],
            class_of=opened.maps["class_of"],
            port_class=opened.maps["port_class"],
            endpoint_tables=opened.maps["endpoint_tables"],
            labels=opened.maps["generation_labels"],
        )
        self._shadows = ShadowMaps(
            differences=opened.maps["differences"],
            coverage=opened.maps["coverage"],
            lost=opened.maps["lost_differences"],
        )
        self._word = ControlWord(opened.maps["control"])
        self._intended = self._word.load()
        self._intended_labels = self.labels()
        self._fingerprints = FingerprintReader()
        self._endpoints = EndpointMap(opened.maps["interfaces"], opened.maps["endpoints"])
        self.proxy = ProxyWay(opened.maps["proxy"], opened.others[pins.TO_PROXY])

    @classmethod
    def open(cls, config: DatapathConfig) -> Datapath:
        """Open what is pinned. Raises DatapathError if nothing whole is."""
        version = pins.current_version(config.bpffs)
        if version is None:
            seen = "" if os.geteuid() == 0 else " that this user may see: ask as root"
            raise DatapathError(f"no datapath is loaded under {config.bpffs}{seen}")
        opened = OpenedPins.open(config.bpffs, version)
        try:
            return cls(config, version, opened)
        except DatapathError:
            opened.close()
            raise

    # What is in force -----------------------------------------------------------------------

    def control(self) -> Control:
        """The revision and the slots in force."""
        return self._word.load()

    def fill(
        self, generation: Generation, *, label: GenerationLabel, keep: Set[int] = frozenset()
    ) -> int:
        """Write a generation into a spare slot; return the slot.

        `keep`: slots that were filled, but that the control word does not name yet.
        """
        slot = self._intended.spare_slot(keep=keep)
        self._intended_labels.pop(slot, None)
        generations.write_generation(self._generations, slot, generation, label)
        self._intended_labels[slot] = label
        return slot

    def activate(self, slot: int) -> int:
        """Judge every packet by a slot from now on; return the new revision."""
        self._require_whole(slot)
        return self._store(self._intended.activated(slot))

    def bump_revision(self) -> int:
        """Have every flow judged again under the same generation; return the new revision."""
        return self._store(self._intended.bumped())

    def set_shadows(self, *, candidate: int | None, preview: int | None) -> int:
        """Judge every flow under these slots too, and count what differs; return the revision.

        Counts of a shadow whose slot stays go on, those of one that gets another begin anew. Those of
        one that gets none stay readable, by the slot that it had, until it is set again.
        """
        before = self._intended
        after = before.shadowed(candidate=candidate, preview=preview)
        for shadow in ASKED:
            slot = after.slot_of(shadow)
            if slot is not None:
                self._require_whole(slot)
        changed = [one for one in ASKED if before.slot_of(one) != after.slot_of(one)]
        if not changed:
            return before.revision
        for shadow in changed:
            if after.slot_of(shadow) is not None:
                shadows.forget(self._shadows, shadow)
        return self._store(after)

    def relabel(self, slot: int, label: GenerationLabel) -> None:
        """Say of a whole slot that its maps are another publication's too."""
        self._require_whole(slot)
        generations.write_label(self._generations, slot, label)
        self._intended_labels[slot] = label

    def labels(self) -> dict[int, GenerationLabel]:
        """What every slot holds that is whole, whether the control word names it or not."""
        found = ((slot, self.slot_label(slot)) for slot in range(abi_numbers.SLOTS))
        return {slot: label for slot, label in found if label is not None}

    def slot_label(self, slot: int) -> GenerationLabel | None:
        """What a slot holds; None if nothing whole."""
        return generations.read_label(self._generations, slot)

    def read_generation(self, slot: int) -> KernelGeneration:
        """What the kernel holds in a slot: policy, class_of, port_class_of, endpoint_tables."""
        return generations.read_generation(self._generations, slot)

    def _require_whole(self, slot: int) -> None:
        """By what was written, without asking the kernel: a flip is to cost no more than its store."""
        if slot not in self._intended_labels:
            raise DatapathError(f"slot {slot} holds no whole generation")

    def _store(self, control: Control) -> int:
        self._word.store(control)
        self._intended = control
        return control.revision

    # Who is who -----------------------------------------------------------------------------

    def set_endpoint(self, endpoint: LocalEndpoint, ifindex: int) -> None:
        """Tell the programs who is behind an interface."""
        peers.set_endpoint(self._endpoints, endpoint, ifindex)

    def remove_endpoint(self, ifindex: int) -> None:
        """Forget who is behind an interface: while attached, it drops everything."""
        peers.remove_endpoint(self._endpoints, ifindex)

    def read_endpoints(self) -> dict[int, KernelEndpoint]:
        """Interface index → endpoint, as the kernel holds them."""
        return peers.read_endpoints(self._endpoints)

    def set_local_ends(self, ends: Mapping[str, LocalEnd]) -> None:
        """Hand packets to these addresses directly, and to no others."""
        local_ends.name_program(self._maps["into_pod"], self._opened.programs[Direction.INGRESS])
        local_ends.write_ends(self._maps["local_ends"], self._maps["local_devices"], ends)

    def upsert_addresses(self, plan: AddressPlan, touched: Set[str] | None = None) -> int:
        """Add and change addresses; return how many differed. Prefixes, and all but those `touched`, are
        not looked at if these are given."""
        return peers.upsert(self._maps["addresses"], self._maps["prefixes"], plan, touched)

    def prune_addresses(self, plan: AddressPlan, touched: Set[str] | None = None) -> int:
        """Remove addresses that the plan does not have; return how many. `touched`: as above."""
        return peers.prune(self._maps["addresses"], self._maps["prefixes"], plan, touched)

    def read_addresses(self) -> AddressPlan:
        """The addresses as the kernel holds them."""
        return peers.read(self._maps["addresses"], self._maps["prefixes"])

    # What should be held, and what is -------------------------------------------------------

    @property
    def intended_control(self) -> Control:
        """The word that was stored last, or found at the start."""
        return self._intended

    @property
    def intended_labels(self) -> dict[int, GenerationLabel]:
        """The label that was written last, or found at the start, of every whole slot."""
        return dict(self._intended_labels)

    def intended_pins(self) -> dict[str, str]:
        """What should stand at each pin, as `Holdings.pins`."""
        bpffs = self._config.bpffs
        return {
            **{str(path.relative_to(bpffs)): str(libbpf.object_id(fd))
               for path, fd in self._opened.by_path().items()},
            pins.CURRENT: self._version.name,
        }  # fmt: skip

    def holdings(self, ifindexes: Iterable[int]) -> Holdings:
        """What the kernel holds, with what stands on these interfaces."""
        return holdings.read_holdings(
            HeldMaps(
                generations=self._generations,
                addresses=self._maps["addresses"],
                prefixes=self._maps["prefixes"],
                endpoints=self._endpoints,
                local_ends=self._maps["local_ends"],
                local_devices=self._maps["local_devices"],
                into_pod=self._maps["into_pod"],
            ),
            self._fingerprints,
            control=self.control(),
            slots=self._intended_labels,
            ifindexes=ifindexes,
            pinned=holdings.read_pins(self._config.bpffs, self._version),
        )

    def restore_control(self) -> int:
        """Store the intended word again, as a revision under which nothing was judged yet."""
        seen = max(self.control().revision, self._intended.revision)
        return self._store(replace(self._intended, revision=seen).bumped())

    def drop_slots(self, slots: Set[int]) -> int:
        """Have no shadow and no rollback in these slots any more; return the revision."""
        revision = self._store(self._intended.without(slots))
        for slot in sorted(slots - {self._intended.active}):
            self._intended_labels.pop(slot, None)
            generations.clear_label(self._generations, slot)
        return revision

    def restore_pins(self) -> None:
        """Pin what is open where it belongs, in place of what stands there."""
        holdings.restore_pins(self._config.bpffs, self._version, self._opened.by_path())

    # Interfaces -----------------------------------------------------------------------------

    def attach(self, ifindex: int) -> bool:
        """Put both programs on an interface, in place of older ones, without a gap.

        False if they were there.
        """
        return attach.attach(ifindex, self._opened.programs)

    def detach(self, ifindex: int) -> None:
        """Take them off: the interface is open."""
        attach.detach(ifindex)

    def attached(self) -> tuple[Filter, ...]:
        """Our programs on pods' interfaces in this network namespace."""
        return attach.attached()

    def program_ids(self) -> dict[Direction, int]:
        """The kernel's numbers of the programs that `attach` puts on an interface."""
        return {way: libbpf.program_id(fd) for way, fd in self._opened.programs.items()}

    def disarmed(self, ifindexes: Iterable[int]) -> frozenset[int]:
        """Those of these interfaces on which packets do not meet our program first. A glance: it costs some
        microseconds an interface, and tells nothing where programs stand on clsact."""
        present = {index for index, _ in socket.if_nameindex()}
        programs = self.program_ids()
        return frozenset(
            ifindex
            for ifindex in present.intersection(ifindexes)
            if not all(tcx.is_first(ifindex, way, number) for way, number in programs.items())
        )

    # Encryption between nodes ----------------------------------------------------------------

    def set_encryption(self, mode: WireMode) -> None:
        """Have packets between nodes treated so, from this store on."""
        encryption_maps.write_mode(self._maps["encryption"], mode)

    def encryption(self) -> WireMode:
        """How packets between nodes are treated."""
        return encryption_maps.read_mode(self._maps["encryption"])

    def set_places(self, places: Mapping[str, Place]) -> int:
        """Say where pods are, by CIDR; return how many entries changed."""
        return encryption_maps.write_places(self._maps["pod_places"], places)

    def places(self) -> dict[str, Place]:
        """Where the kernel believes pods to be."""
        return encryption_maps.read_places(self._maps["pod_places"])

    def tunnelled(self) -> Tunnelled | None:
        """Who says of a connection whether it travels encrypted; None: none does."""
        if not self.encryption().is_on:
            return None
        return Tunnelled(self._maps["conntrack"], self._maps["half_open"])

    def guard_tunnel(self, ifindex: int) -> None:
        """Have what comes out of a tunnel known as decrypted."""
        attach.attach(ifindex, self._guards(tunnel=True), GUARDS)

    def guard_uplink(self, ifindex: int) -> None:
        """Let no packet of a pod leave here in the clear, in strict mode, and know what came so."""
        attach.attach(ifindex, self._guards(tunnel=False), GUARDS)

    def is_guarded(self, ifindex: int, *, tunnel: bool) -> bool:
        """True if all that a tunnel or an uplink needs stands there, as it is today."""
        wanted = set(map(libbpf.program_id, self._guards(tunnel=tunnel).values()))
        return wanted <= {found.program_id for found in attach.attached(GUARDS, [ifindex])}

    def _guards(self, *, tunnel: bool) -> dict[Direction, int]:
        programs = self._opened.others
        if tunnel:
            return {Direction.EGRESS: programs[pins.FROM_TUNNEL]}
        return {
            Direction.INGRESS: programs[pins.TO_UPLINK],
            Direction.EGRESS: programs[pins.FROM_UPLINK],
        }

    # What happened --------------------------------------------------------------------------

    def read_conntrack(self) -> Iterator[ConntrackEntry]:
        """Every flow the kernel remembers."""
        return flow_table.read_conntrack(self._maps["conntrack"], self._maps["half_open"])

    def collect_flows(self) -> Iterator[Collected]:
        """Remove flows that are over: idle too long, or of endpoints that are gone. A slice each step."""
        flows = tuple(self._maps[name] for name in self._config.flow_maps)
        identity_of = partial(peers.identity_of, self._maps["addresses"], self._maps["prefixes"])
        collector = FlowCollector(flows, self._config.options.lifetimes, identity_of)

        def living() -> dict[int, FlowOwner]:
            return {
                found.endpoint_id: FlowOwner(ifindex=ifindex, endpoint=found)
                for ifindex, found in self.read_endpoints().items()
            }

        return collector.sweep(living, time.monotonic_ns)

    def clear_conntrack(self) -> None:
        """Forget every flow: the next packet of each is judged as found mid-stream."""
        flow_table.clear_conntrack(self._maps["conntrack"], self._maps["half_open"])

    def read_differences(
        self, shadow: Shadow, *, slot: int | None = None
    ) -> tuple[KernelDifference, ...]:
        """What a shadow judges otherwise since it was set, under the slot it has (or had: `slot`)."""
        slot = self.control().slot_of(shadow) if slot is None else slot
        return () if slot is None else shadows.read_differences(self._shadows, shadow, slot)

    def read_coverage(self, shadow: Shadow, *, slot: int | None = None) -> dict[int, int]:
        """Endpoint id → flows that were judged under a shadow too; `slot` as above."""
        slot = self.control().slot_of(shadow) if slot is None else slot
        return {} if slot is None else shadows.read_coverage(self._shadows, shadow, slot)

    def lost_differences(self, shadow: Shadow, *, slot: int | None = None) -> int:
        """How many judgements differed that the kernel had no room for; `slot` as above."""
        slot = self.control().slot_of(shadow) if slot is None else slot
        return 0 if slot is None else shadows.read_lost(self._shadows, shadow, slot)

    def counters(self) -> Counters:
        """Forwarded and dropped packets, lost events."""
        return flow_table.read_counters(self._maps["counters"])

    def lost_events(self) -> int:
        """How many events the ring had no room for."""
        return flow_table.read_lost_events(self._maps["counters"])

    def events(self) -> EventReader:
        """A reader of the event ring; the caller closes it."""
        decide = Undecided(self._maps["pod_places"]).decide
        return EventReader(self._maps["events"], self._maps["event_bell"], decide)

    def tell_refusals(self) -> None:
        """Have the kernel tell of refused packets that it has added up for a second or longer."""
        libbpf.run_program(self._opened.others[pins.SWEEPER], _NO_PACKET)

    def run_program(
        self,
        direction: Direction,
        packet: bytes,
        *,
        context: bytes | bytearray = b"",
        repeat: int = 1,
    ) -> tuple[int, int]:
        """Run a program on a packet without sending it: its result, nanoseconds a run."""
        fd = self._opened.programs[direction]
        return libbpf.run_program(fd, packet, context=context, repeat=repeat)

    # The end --------------------------------------------------------------------------------

    def remove_all(self) -> None:
        """Take every program of ours off and unpin everything: the node is open."""
        for owner in OWNERS:
            for ifindex in sorted({found.ifindex for found in attach.attached(owner)}):
                attach.detach(ifindex, owner)
        pins.remove_all_pins(self._config.bpffs)

    def close(self) -> None:
        """Give the descriptors back. What is pinned and attached stays."""
        self._word.close()
        self._endpoints.close()
        self._opened.close()
