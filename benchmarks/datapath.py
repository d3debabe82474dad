"""Nanoseconds a packet, by BPF_PROG_TEST_RUN, against a tc program that does nothing.

In:   generations of 10² to 10⁵ policy entries
Out:  established, half-open and new flows at each size
Shell. Hot caches: what the program costs, not what memory does.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.datapath_world import (
    CLIENT_ID,
    CLIENT_IDENTITY,
    PORT,
    SERVER_IDENTITY,
    bpffs,
    generation_of,
    label_of,
    loaded_datapath,
    without_rules,
)
from benchmarks.packets import ACK, SYN, context, tcp4
from benchmarks.report import Result
from netpolicy.rules import Direction
from nodeagent.datapath import Datapath, libbpf
from nodeagent.plan.generation import AddressPlan, LocalEndpoint

SIZES: Final = (100, 1_000, 10_000, 100_000)
REPEAT: Final = 5_000
"""Few enough that every new flow's event still finds room in the ring."""
ROUNDS: Final = 40
SHADOWED_ENTRIES: Final = 10_000
GROWTH_TARGET: Final = 1.5
"""A thousand times the entries may cost this much more."""

CLIENT, SERVER = "10.90.0.1", "10.90.0.2"
LOOPBACK: Final = 1
_EMPTY: Final = '__attribute__((section("tc"), used)) int empty(void *packet) { return 0; }\n'


def run() -> list[Result]:
    """Measure."""
    with _empty_program() as fd:
        packet = tcp4(CLIENT, 40000, SERVER, PORT, ACK)
        empty = _best(lambda: libbpf.run_program(fd, packet, repeat=REPEAT)[1])
    results = [Result(metric="empty tc program", value=empty, unit="ns/packet")]
    with loaded_datapath() as datapath:
        _set_up(datapath)
        smallest: dict[str, float] = {}
        for entries in SIZES:
            generation = generation_of(entries)
            datapath.activate(datapath.fill(generation, label=label_of(generation)))
            for case, cost in _cases(datapath).items():
                first = smallest.setdefault(case, cost)
                name = f"{case}, {entries:,} entries"
                results.append(Result(metric=name, value=cost, unit="ns/packet", baseline=empty))
                if entries == SIZES[-1]:
                    results.append(
                        Result(
                            metric=f"{case}, growth {SIZES[0]:,} → {entries:,} entries",
                            value=cost,
                            unit="ns/packet",
                            baseline=first,
                            target=GROWTH_TARGET,
                        )
                    )
        results += _with_shadows(datapath)
    return results


def _with_shadows(datapath: Datapath) -> list[Result]:
    """What it costs to judge by other generations too; the baseline is the same case without any."""
    generation = generation_of(SHADOWED_ENTRIES)
    slots = [datapath.control().active]
    for shadow in (generation, generation, without_rules(generation)):
        slots.append(
            datapath.fill(shadow, label=label_of(shadow), keep={s for s in slots if s is not None})
        )
    _, alike, also_alike, refusing = slots
    results = []
    alone: dict[str, float] = {}
    for name, candidate, preview in (
        ("no shadow", None, None),
        ("a shadow that agrees", alike, None),
        ("two shadows that agree", alike, also_alike),
        ("a shadow that would deny", refusing, None),
    ):
        datapath.set_shadows(candidate=candidate, preview=preview)
        for case, cost in _cases(datapath).items():
            baseline = alone.setdefault(case, cost)
            metric = f"{case}, {SHADOWED_ENTRIES:,} entries, {name}"
            results.append(Result(metric=metric, value=cost, unit="ns/packet", baseline=baseline))
    return results


def _set_up(datapath: Datapath) -> None:
    """One endpoint behind the loopback interface: test runs need a real one, and send nothing."""
    endpoint = LocalEndpoint(
        endpoint_id=CLIENT_ID,
        identity=CLIENT_IDENTITY,
        interface="lo",
        namespace="bench",
        name="client",
        addresses=(CLIENT,),
    )
    datapath.set_endpoint(endpoint, LOOPBACK)
    exact = {CLIENT: CLIENT_IDENTITY, SERVER: SERVER_IDENTITY}
    datapath.upsert_addresses(AddressPlan(exact=exact, prefixes={"0.0.0.0/0": 2, "::/0": 2}))


def _cases(datapath: Datapath) -> dict[str, float]:
    """A bare SYN is judged each time and starts its entry anew; an ACK finds the entry, which is
    half open until the server has answered."""

    def pass_once(direction: Direction, packet: bytes) -> None:
        verdict, _ = datapath.run_program(direction, packet, context=context(LOOPBACK))
        if verdict == _TC_ACT_SHOT:
            raise RuntimeError("a measured packet is refused: the figures would mean nothing")

    def cost(flags: int) -> float:
        packet = tcp4(CLIENT, 40000, SERVER, PORT, flags)
        pass_once(Direction.EGRESS, packet)
        return _best(measure_after_draining(packet))

    def answer() -> None:
        packet = tcp4(SERVER, PORT, CLIENT, 40000, SYN | ACK)
        pass_once(Direction.INGRESS, packet)

    def measure_after_draining(packet: bytes) -> Callable[[], float]:
        def measure() -> float:
            while events.read():
                pass
            return datapath.run_program(
                Direction.EGRESS, packet, context=context(LOOPBACK), repeat=REPEAT
            )[1]

        return measure

    with closing(datapath.events()) as events:
        datapath.clear_conntrack()
        costs = {"new flow": cost(SYN), "half open": cost(ACK)}
        answer()
        return costs | {"established": cost(ACK)}


_TC_ACT_SHOT: Final = 2


def _best(measure: Callable[[], float]) -> float:
    """The least disturbed of several rounds."""
    return min(measure() for _ in range(ROUNDS))


@contextmanager
def _empty_program() -> Iterator[int]:
    """A descriptor of a tc program that returns at once."""
    with bpffs() as root:
        # Source and object lie beside the mount point: bpffs takes pins only.
        source = Path("/tmp") / f"{root.name}.c"
        compiled = source.with_suffix(".o")
        source.write_text(_EMPTY)
        try:
            for command in (
                ["clang", "-O2", "-target", "bpf", "-c", str(source), "-o", str(compiled)],
                ["bpftool", "prog", "load", str(compiled), str(root / "empty"), "type", "tc"],
            ):
                subprocess.run(command, check=True, capture_output=True)
            yield libbpf.get_pinned(root / "empty")
        finally:
            source.unlink(missing_ok=True)
            compiled.unlink(missing_ok=True)
