"""The kernel as an engine for cases: the real programs on made packets, nothing sent.

    source's from_pod  ──▶  destination's to_pod        (BPF_PROG_TEST_RUN)

The kernel runs a test packet as if it came over loopback (interface 1), so each run first says which
endpoint that is. Every flow has a source port of its own, lest conntrack answer for an earlier one.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from netpolicy.evidence import Shadow
from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import (
    Datapath,
    DatapathConfig,
    DatapathError,
    FlowEvent,
    GenerationLabel,
    Occasion,
    abi,
    ensure_loaded,
    libbpf,
    packing,
)
from nodeagent.datapath.pins import map_path, remove_all_pins, version_of
from nodeagent.datapath_options import DEFAULT_OPTIONS, DatapathOptions
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from tests.support import kernel_packets as packets

OBJECT: Final = Path(__file__).parents[2] / "build" / "bpf" / "tidegate.bpf.o"
BPFFS: Final = Path("/sys/fs/bpf")
CONNTRACK_ENTRIES: Final = 65_536
TEST_INTERFACE: Final = 1
_PASS: Final = -1
_REDIRECT: Final = 7
_FIRST_PORT: Final = 20_000
_CONTEXT_BYTES: Final = 192
_MARK_AT, _PRIORITY_AT = 8, 32
"""Of struct __sk_buff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSide:
    """What one endpoint's program did. `cookie` is a key of `Generation.attributions`, or 0.

    `proxy_port`: the packet goes on to the proxy, as one for this port.
    """

    allowed: bool
    reason: int
    cookie: int
    proxy_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelAnswer:
    """Both sides; None where that end is no endpoint here, or the packet did not get so far."""

    egress: KernelSide | None
    ingress: KernelSide | None

    @property
    def allowed(self) -> bool:
        """True if every side let it pass."""
        return all(side is None or side.allowed for side in (self.egress, self.ingress))

    @property
    def deciding(self) -> KernelSide | None:
        """The side that refused it, else the last that judged it."""
        return self.ingress or self.egress


class KernelEngine:
    """Holds one generation at a time."""

    def __init__(self, datapath: Datapath, config: DatapathConfig) -> None:
        self.datapath = datapath
        self._config = config
        self._events = datapath.events()
        self._endpoints: dict[str, LocalEndpoint] = {}
        self._stands_for: LocalEndpoint | None = None
        self._source_ports = count(_FIRST_PORT)
        self._refusals = libbpf.open_map(map_path(config.bpffs, version_of(config), "refusals"))

    @property
    def bpffs(self) -> Path:
        """Where everything is pinned."""
        return self._config.bpffs

    def load(
        self, generation: Generation, addresses: AddressPlan, endpoints: Iterable[LocalEndpoint]
    ) -> None:
        """Put a generation in force, with its addresses and endpoints, in place of the last."""
        label = GenerationLabel(
            generation_digest=generation.digest, bundle_digest="0" * 64, sequence=1
        )
        self.datapath.activate(self.datapath.fill(generation, label=label))
        self.datapath.upsert_addresses(addresses)
        self.datapath.prune_addresses(addresses)
        self.datapath.bump_revision()
        self._endpoints = {address: e for e in endpoints for address in e.addresses}
        self._stands_for = None

    def judge(self, source: str, destination: str, protocol: Protocol, port: int) -> KernelAnswer:
        """Judge a new flow between two addresses. For the ICMPs `port` is the type."""
        packet = packets.opening(
            source, destination, protocol, port, source_port=self._fresh_port()
        )
        egress = self._side(source, Direction.EGRESS, packet)
        if egress is not None and not egress.allowed:
            return KernelAnswer(egress=egress, ingress=None)
        return KernelAnswer(
            egress=egress, ingress=self._side(destination, Direction.INGRESS, packet)
        )

    def run(self, endpoint: LocalEndpoint, direction: Direction, packet: bytes) -> KernelSide:
        """Run one program, as the endpoint's, on any packet."""
        side, _ = self.run_and_listen(endpoint, direction, packet)
        return side

    def allows(self, endpoint: LocalEndpoint, direction: Direction, packet: bytes) -> bool:
        """True if the program, run as the endpoint's, lets the packet pass. What it tells is left unread."""
        self._stand_for(endpoint)
        result, _ = self.datapath.run_program(direction, packet)
        return result in (_PASS, _REDIRECT)

    def _stand_for(self, endpoint: LocalEndpoint) -> None:
        if endpoint is not self._stands_for:
            self.datapath.set_endpoint(endpoint, TEST_INTERFACE)
            self._stands_for = endpoint

    def run_and_listen(
        self, endpoint: LocalEndpoint, direction: Direction, packet: bytes
    ) -> tuple[KernelSide, list[FlowEvent]]:
        """The same, with what the program told of it."""
        self._stands_for = None
        self._stand_for(endpoint)
        self.forget_events()
        result, _ = self.datapath.run_program(direction, packet)
        told = self._events.read()
        self._forget_refusals(told)
        own = [event for event in told if event.occasion is not Occasion.AUDIT]
        reason, cookie = (own[-1].reason, own[-1].cookie) if own else (0, 0)
        side = KernelSide(
            allowed=result in (_PASS, _REDIRECT),
            reason=reason,
            cookie=cookie,
            proxy_port=self._proxy_port(own[-1]) if result == _REDIRECT else 0,
        )
        return side, told

    def run_marked(
        self,
        endpoint: LocalEndpoint,
        direction: Direction,
        packet: bytes,
        *,
        mark: int = 0,
        priority: int = 0,
    ) -> tuple[int, int, list[FlowEvent]]:
        """Run one program on a packet with a mark: its result, the mark behind it, and what it told."""
        context = bytearray(_CONTEXT_BYTES)
        struct.pack_into("=I", context, _MARK_AT, mark)
        struct.pack_into("=I", context, _PRIORITY_AT, priority)
        self._stands_for = None
        self._stand_for(endpoint)
        self.forget_events()
        result, _ = self.datapath.run_program(direction, packet, context=context)
        told = self._events.read()
        self._forget_refusals(told)
        return result, struct.unpack_from("=I", context, _MARK_AT)[0], told

    def _proxy_port(self, opened: FlowEvent) -> int:
        """Where the flow goes that was told of last."""
        ports = {opened.source_port, opened.destination_port}
        for name in self._config.flow_maps:
            with self.opened(name) as flows:
                for key, value in libbpf.entries_of(flows):
                    flow = abi.ConntrackKey.from_buffer_copy(key)
                    if flow.endpoint_id == opened.endpoint_id and ports == {
                        flow.local_port,
                        flow.remote_port,
                    }:
                        return abi.ConntrackEntry.from_buffer_copy(value).judgement.proxy_port
        raise LookupError(f"the kernel does not remember {opened}")

    def _forget_refusals(self, told: Iterable[FlowEvent]) -> None:
        """Else the next packet of a refused flow is not told for a second."""
        for event in told:
            if event.reason or event.shadow:
                libbpf.delete(self._refusals, bytes(_refusal_key(event)))

    @property
    def event_room(self) -> int:
        """How many events the ring holds."""
        return self._events.room

    def forget_events(self) -> None:
        """Read all that was told so far, and forget it."""
        self.waiting_events()

    def waiting_events(self) -> list[FlowEvent]:
        """Read all that was told so far."""
        told: list[FlowEvent] = []
        while some := self._events.read():
            told += some
        return told

    def forget_flows(self) -> None:
        """Empty the maps of flows and fragments."""
        self.datapath.clear_conntrack()
        with self.opened("fragments") as fragments:
            for key, _ in list(libbpf.entries_of(fragments)):
                libbpf.delete(fragments, key)

    def age_flows(self, seconds: float) -> None:
        """Make every flow look idle for some more seconds."""
        for name in self._config.flow_maps:
            with self.opened(name) as flows:
                for key, value in list(libbpf.entries_of(flows)):
                    entry = abi.ConntrackEntry.from_buffer_copy(value)
                    entry.last_seen_ns -= int(seconds * 1e9)
                    entry.last_seen_tick = 0
                    libbpf.update(flows, key, bytes(entry))

    def age_refusals(self, seconds: float) -> None:
        """Make every refused flow look told some seconds earlier."""
        for key, value in list(libbpf.entries_of(self._refusals)):
            refusal = abi.Refusal.from_buffer_copy(value)
            refusal.told_ns -= int(seconds * 1e9)
            libbpf.update(self._refusals, key, bytes(refusal))

    def age_fragments(self, seconds: float) -> None:
        """Make every first fragment look seen some seconds earlier."""
        with self.opened("fragments") as fragments:
            for key, value in list(libbpf.entries_of(fragments)):
                first = abi.FirstFragment.from_buffer_copy(value)
                first.seen_ns -= int(seconds * 1e9)
                libbpf.update(fragments, key, bytes(first))

    def crowd_differences(self, shadow: Shadow) -> None:
        """Count so much else under a shadow that there is no room left for more."""
        slot = self.datapath.control().slot_of(shadow)
        with self.opened("differences") as differences:
            room = differences.max_entries - sum(1 for _ in libbpf.entries_of(differences))
            nobodys = (
                abi.DifferenceKey(
                    source_identity=1 << 31, cookie=n, shadow=shadow, slot=slot, cause=1
                )
                for n in range(room)
            )
            libbpf.update_batch(
                differences, [(bytes(key), bytes(abi.Difference(count=1))) for key in nobodys]
            )

    def close(self) -> None:
        """Unpin everything."""
        self._events.close()
        self._refusals.close()
        self.datapath.remove_all()
        self.datapath.close()

    @contextmanager
    def opened(self, name: str) -> Iterator[libbpf.Map]:
        """A map by its name."""
        opened = libbpf.open_map(map_path(self._config.bpffs, version_of(self._config), name))
        try:
            yield opened
        finally:
            opened.close()

    def _side(self, address: str, direction: Direction, packet: bytes) -> KernelSide | None:
        endpoint = self._endpoints.get(address)
        return None if endpoint is None else self.run(endpoint, direction, packet)

    def _fresh_port(self) -> int:
        return _FIRST_PORT + next(self._source_ports) % 40_000


def _refusal_key(event: FlowEvent) -> abi.RefusalKey:
    """What the kernel adds refused packets up by."""
    return abi.RefusalKey(
        source=abi.Address.from_buffer_copy(packing.pack_address(event.source)),
        destination=abi.Address.from_buffer_copy(packing.pack_address(event.destination)),
        endpoint_id=event.endpoint_id,
        revision=event.revision,
        source_port=event.source_port,
        destination_port=event.destination_port,
        protocol=event.protocol,
        icmp_type=event.icmp_type,
        icmp_code=event.icmp_code,
        direction=event.direction,
        reason=event.reason,
        shadow=event.shadow or 0,
    )


def private_config(
    *,
    conntrack_entries: int = CONNTRACK_ENTRIES,
    object_path: Path = OBJECT,
    options: DatapathOptions = DEFAULT_OPTIONS,
) -> DatapathConfig:
    """A directory of bpffs that nobody else has."""
    return DatapathConfig(
        bpffs=BPFFS / f"tidegate-test-{uuid.uuid4().hex[:8]}",
        object_path=object_path,
        conntrack_entries=conntrack_entries,
        options=options,
    )


@contextmanager
def kernel_engine(
    *, object_path: Path = OBJECT, options: DatapathOptions = DEFAULT_OPTIONS
) -> Iterator[KernelEngine]:
    """An engine on a datapath of its own, which is removed behind it."""
    config = private_config(object_path=object_path, options=options)
    try:
        ensure_loaded(config)
    except DatapathError:
        remove_all_pins(config.bpffs)
        raise
    engine = KernelEngine(Datapath.open(config), config)
    try:
        yield engine
    finally:
        engine.close()
