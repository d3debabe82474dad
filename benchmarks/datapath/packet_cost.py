"""Nanoseconds a packet, by BPF_PROG_TEST_RUN, beside a tc program that does nothing.

In:   generations of 10² to 10⁶ entries; one pair that always talks, or any of as many peers
Out:  established and new flows at each size, with and without shadows; what a generation costs to
      build, to flip to, and to keep; what it saves that pods share tables
Shell. All cases of one size take turns, the yardsticks among them: of each the least disturbed round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.datapath import flip, pictures, shared_tables
from benchmarks.datapath.packets import ACK, SYN, context, tcp4
from benchmarks.datapath.world import (
    CLIENT,
    FIRST_PEER,
    PAIR_ENTRIES,
    PORT,
    SERVER,
    World,
    addresses_of,
    client_endpoint,
    generation_of,
    label_of,
    loaded_world,
)
from benchmarks.datapath.yardsticks import Yardsticks, yardsticks
from benchmarks.report import DIRECTORY, QUICK_DIRECTORY, Result
from netpolicy.rules import Direction
from nodeagent.datapath.events import EventReader
from nodeagent.datapath_options import DatapathOptions

SIZES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES: Final = (100, 1_000)
ROUNDS, QUICK_ROUNDS = 40, 4
REPEAT: Final = 5_000
"""Few enough that every new flow's event still finds room in the ring."""
CONNTRACK_ENTRIES: Final = 1_500_000
"""Room for an established flow with each of the most peers."""
OPTIONS: Final = DatapathOptions(max_addresses=SIZES[-1])
SHADOWED_ENTRIES: Final = 10_000

ESTABLISHED_TARGET_NS: Final = 60.0
NEW_FLOW_TARGET_NS: Final = 150.0
GROWTH_TARGET: Final = 1.15

LOOPBACK: Final = 1
CLIENT_PORT: Final = 40_000
OPENING_PORT: Final = 40_001
_PEER: Final = "11.0.0.0"
_TURN: Final = 20_000
"""Flows that are opened at once: fewer than may be half open."""

Case = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The costs of one size, by case, in nanoseconds a run of the program."""

    entries: int
    costs: Mapping[str, float]
    fill_ms: float
    bytes: int


def run(*, quick: bool = False) -> list[Result]:
    """Measure, and draw."""
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if quick else (SIZES, ROUNDS)
    with loaded_world(conntrack_entries=CONNTRACK_ENTRIES, options=OPTIONS) as world:
        world.datapath.set_endpoint(client_endpoint("lo"), LOOPBACK)
        with yardsticks(world.bpffs) as sticks, _bench(world, sticks) as bench:
            points = [bench.measure(entries, rounds) for entries in sizes]
            shadowed = bench.with_shadows(QUICK_SIZES[-1] if quick else SHADOWED_ENTRIES, rounds)
    pictures.draw_packet_costs(
        {case: [(at.entries, _net(at, case)) for at in points] for case in BASELINES},
        (QUICK_DIRECTORY if quick else DIRECTORY) / "datapath.svg",
    )
    return [
        *(result for point in points for result in _results(point)),
        *_growth(points),
        *_shadow_results(shadowed),
        *flip.run(quick=quick),
        *shared_tables.run(quick=quick),
    ]


BASELINES: Final = {
    "established, hot": "empty program",
    "established, random": "empty program, varied packets",
    "half open, hot": "empty program",
    "new flow, hot": "empty program",
    "new flow, random": "empty program, varied packets",
}
"""What each case is measured beside."""
INSERTIONS: Final = {
    "new flow, hot": ("insertion, same key", "empty program"),
    "new flow, random": ("insertion, fresh keys", "empty program"),
}
"""The bare insertion that a new flow cannot do without, and that insertion's own baseline."""


class Bench:
    """The world, with everything that a case needs at hand."""

    def __init__(self, world: World, sticks: Yardsticks, events: EventReader) -> None:
        self._world, self._sticks, self._events = world, sticks, events
        self._datapath = world.datapath
        self._from_pod, self._to_pod = world.program("from_pod"), world.program("to_pod")
        self._context = context(LOOPBACK)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._from_pod)
        os.close(self._to_pod)

    def measure(self, entries: int, rounds: int) -> Point:
        """All cases at one size."""
        slot, fill_ms = self._fill(entries)
        self._datapath.activate(slot)
        peers = entries - PAIR_ENTRIES
        self._establish_pair()
        self._establish_peers(peers)
        return Point(
            entries=entries,
            costs=_least(self._cases(peers), rounds),
            fill_ms=fill_ms,
            bytes=flip.bytes_of_generation(self._world, slot),
        )

    def with_shadows(self, entries: int, rounds: int) -> list[dict[str, float]]:
        """The hot cases beside no shadow, one, and two."""
        active, _ = self._fill(entries)
        self._datapath.activate(active)
        shadows: list[int] = []
        costs = [self._hot_cases(entries, rounds)]
        for number in (1, 2):
            shadows.append(self._fill(entries + number)[0])
            candidate, preview = [*shadows, None][:2]
            self._datapath.set_shadows(candidate=candidate, preview=preview)
            costs.append(self._hot_cases(entries, rounds))
        self._datapath.set_shadows(candidate=None, preview=None)
        return costs

    def _hot_cases(self, entries: int, rounds: int) -> dict[str, float]:
        self._establish_pair()
        cases = self._cases(entries - PAIR_ENTRIES)
        hot = ("established, hot", "new flow, hot")
        return _least({name: cases[name] for name in hot}, rounds)

    def _fill(self, entries: int) -> tuple[int, float]:
        """A slot with a generation of that size, and how long it took to write."""
        generation = generation_of(entries)
        self._datapath.upsert_addresses(addresses_of(entries))
        begun = time.perf_counter()
        slot = self._datapath.fill(generation, label=label_of(generation))
        return slot, (time.perf_counter() - begun) * 1e3

    def _establish_pair(self) -> None:
        self._datapath.clear_conntrack()
        for direction, packet in (
            (Direction.EGRESS, _out(CLIENT_PORT, SYN)),
            (Direction.INGRESS, tcp4(SERVER, PORT, CLIENT, CLIENT_PORT, SYN | ACK)),
            (Direction.EGRESS, _out(CLIENT_PORT, ACK)),
            (Direction.EGRESS, _out(OPENING_PORT, SYN)),
        ):
            self._pass(direction, packet)

    def _establish_peers(self, peers: int) -> None:
        """A flow with each peer: opened, answered, and gone on with."""
        for start in range(0, peers, _TURN):
            many = min(_TURN, peers - start)
            for stick, program, packet in (
                ("vary_destination", self._from_pod, _to_peer(SYN)),
                ("vary_source", self._to_pod, tcp4(_PEER, PORT, CLIENT, CLIENT_PORT, SYN | ACK)),
                ("vary_destination", self._from_pod, _to_peer(ACK)),
            ):
                self._sticks.point_at(program)
                self._sticks.walk(int(FIRST_PEER) + start, many, at_random=False)
                self._sticks.cost(stick, packet, context=self._context, repeat=many)

    def _cases(self, peers: int) -> dict[str, Case]:
        """A SYN is judged each time, and starts its entry anew; an ACK finds the entry."""
        stick, hot, varied = self._stick, self._hot, partial(self._varied, peers)
        ack, syn = _out(CLIENT_PORT, ACK), _out(OPENING_PORT, SYN)
        any_ack, any_syn = _to_peer(ACK), _to_peer(SYN)
        return {
            "empty program": lambda: stick("empty", ack),
            "empty program, varied packets": lambda: varied(None, any_ack),
            "insertion, same key": lambda: stick("insert_same", ack),
            "insertion, fresh keys": lambda: self._insert_fresh(peers, ack),
            "established, hot": lambda: hot(ack),
            "established, random": lambda: varied(self._from_pod, any_ack),
            "new flow, hot": lambda: hot(syn),
            "half open, hot": lambda: hot(_out(OPENING_PORT, ACK)),
            "new flow, random": lambda: varied(self._from_pod, any_syn, fresh_ports=True),
        }

    def _stick(self, name: str, packet: bytes) -> float:
        return self._sticks.cost(name, packet, context=self._context, repeat=REPEAT)

    def _hot(self, packet: bytes) -> float:
        self._drain()
        return self._datapath.run_program(
            Direction.EGRESS, packet, context=self._context, repeat=REPEAT
        )[1]

    def _varied(
        self, peers: int, program: int | None, packet: bytes, *, fresh_ports: bool = False
    ) -> float:
        self._drain()
        self._sticks.point_at(program)
        self._sticks.walk(int(FIRST_PEER), peers, at_random=True, fresh_ports=fresh_ports)
        return self._stick("vary_destination", packet)

    def _insert_fresh(self, peers: int, packet: bytes) -> float:
        self._sticks.walk(int(FIRST_PEER), peers, at_random=True)
        return self._stick("insert_fresh", packet)

    def _drain(self) -> None:
        while self._events.read():
            pass

    def _pass(self, direction: Direction, packet: bytes) -> None:
        verdict, _ = self._datapath.run_program(direction, packet, context=self._context)
        if verdict == _TC_ACT_SHOT:
            raise RuntimeError("a measured packet is refused: the figures would mean nothing")


_TC_ACT_SHOT: Final = 2


@contextmanager
def _bench(world: World, sticks: Yardsticks) -> Iterator[Bench]:
    with closing(world.datapath.events()) as events, closing(Bench(world, sticks, events)) as bench:
        yield bench


def _out(port: int, flags: int) -> bytes:
    return tcp4(CLIENT, port, SERVER, PORT, flags)


def _to_peer(flags: int) -> bytes:
    return tcp4(CLIENT, CLIENT_PORT, _PEER, PORT, flags)


def _least(cases: Mapping[str, Case], rounds: int) -> dict[str, float]:
    """The least disturbed of several rounds, in which the cases take turns."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, measure in cases.items():
            taken[name].append(measure())
    return {name: min(values) for name, values in taken.items()}


def _net(point: Point, case: str) -> float:
    """What a case costs beyond its baseline."""
    return point.costs[case] - point.costs[BASELINES[case]]


def _results(point: Point) -> Iterator[Result]:
    at = f"{point.entries:,} entries"
    for case, baseline in BASELINES.items():
        cost, beside = point.costs[case], point.costs[baseline]
        yield Result(metric=f"{case}, {at}", value=cost, unit="ns/packet", baseline=beside)
    for case, (insertion, baseline) in INSERTIONS.items():
        bare = point.costs[insertion] - point.costs[baseline]
        yield Result(
            metric=f"{case}, beyond a bare insertion ({bare:.0f} ns), {at}",
            value=_net(point, case) - bare,
            unit="ns",
            target=NEW_FLOW_TARGET_NS if case == "new flow, hot" else None,
        )
    yield Result(
        metric=f"established, hot, beyond an empty program, {at}",
        value=_net(point, "established, hot"),
        unit="ns",
        target=ESTABLISHED_TARGET_NS,
    )
    yield Result(metric=f"fill a slot, {at}", value=point.fill_ms, unit="ms")
    yield Result(metric=f"a generation's maps, {at}", value=point.bytes / 2**20, unit="MiB")


def _growth(points: list[Point]) -> Iterator[Result]:
    first, last = points[0], points[-1]
    for case in ("established, hot", "new flow, hot"):
        yield Result(
            metric=f"{case}, growth {first.entries:,} → {last.entries:,} entries",
            value=last.costs[case],
            unit="ns/packet",
            baseline=first.costs[case],
            target=GROWTH_TARGET,
        )


def _shadow_results(shadowed: Sequence[Mapping[str, float]]) -> Iterator[Result]:
    for shadows in (1, 2):
        for case, cost in shadowed[shadows].items():
            yield Result(
                metric=f"{case}, with {shadows} shadow{'s' * (shadows > 1)}",
                value=cost,
                unit="ns/packet",
                baseline=shadowed[0][case],
            )
