"""How long a change of generation takes: filling a spare slot, and the one store that flips.

In:   two generations of 10² to 10⁵ entries, flipped back and forth
Out:  fill times, percentiles of flips; what all maps take before any generation is loaded
Shell.
"""

from __future__ import annotations

import os
import time
from typing import Final

from benchmarks.datapath.world import World, generation_of, label_of, loaded_world
from benchmarks.datapath.yardsticks import memory_of
from benchmarks.report import Result, percentile
from nodeagent.datapath import Datapath, libbpf, pins

SIZES: Final = (100, 10_000, 100_000)
QUICK_SIZES: Final = (100,)
FLIPS, QUICK_FLIPS = 10_000, 500
FLIP_TARGET_MICROSECONDS: Final = 50.0
GENERATION_MAPS: Final = ("policy", "class_of", "port_class", "endpoint_tables")
_MIB: Final = 2**20


def run(*, quick: bool = False) -> list[Result]:
    """Measure."""
    results = []
    for entries in QUICK_SIZES if quick else SIZES:
        with loaded_world() as world:
            empty = _bytes_of_all(world)
            slots, fill_ms = _fill_two(world.datapath, entries)
            flips = _flip(world.datapath, slots, QUICK_FLIPS if quick else FLIPS)
        results.append(Result(metric=f"fill {entries:,} entries", value=fill_ms, unit="ms"))
        for percent in (50, 99):
            results.append(
                Result(
                    metric=f"flip p{percent}, {entries:,} entries",
                    value=percentile(flips, percent),
                    unit="µs",
                    target=FLIP_TARGET_MICROSECONDS,
                )
            )
    results.append(Result(metric="all maps, no generation", value=empty / _MIB, unit="MiB"))
    return results


def bytes_of_generation(world: World, slot: int) -> int:
    """What the maps of one slot take."""
    return sum(bytes_of_map(world, name, slot) for name in GENERATION_MAPS)


def bytes_of_map(world: World, name: str, slot: int) -> int:
    """What one of them takes."""
    outer = _open(world, name)
    held = libbpf.lookup(outer, slot.to_bytes(4, "little"))
    outer.close()
    if held is None:
        raise RuntimeError(f"{name} has no map in slot {slot}")
    inner = libbpf.open_inner(int.from_bytes(held, "little"), name)
    try:
        return memory_of(inner)
    finally:
        inner.close()


def _bytes_of_all(world: World) -> int:
    taken = 0
    for name in pins.MAPS:
        opened = _open(world, name)
        taken += memory_of(opened)
        os.close(opened.fd)
    return taken


def _open(world: World, name: str) -> libbpf.Map:
    version = pins.current_version(world.config.bpffs)
    if version is None:
        raise RuntimeError("nothing is loaded")
    return libbpf.open_map(pins.map_path(world.config.bpffs, version, name))


def _fill_two(datapath: Datapath, entries: int) -> tuple[tuple[int, int], float]:
    """Two slots in use, as after a rollout; how long the second fill took."""
    first, second = generation_of(entries), generation_of(entries + 1)
    one = datapath.fill(first, label=label_of(first))
    datapath.activate(one)
    begun = time.perf_counter()
    other = datapath.fill(second, label=label_of(second))
    return (one, other), (time.perf_counter() - begun) * 1e3


def _flip(datapath: Datapath, slots: tuple[int, int], times: int) -> list[float]:
    """Microseconds of each `activate`, its check of the slot's label included."""
    taken = []
    for number in range(times):
        begun = time.perf_counter_ns()
        datapath.activate(slots[number % 2])
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken
