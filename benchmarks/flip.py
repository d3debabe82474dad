"""How long a change of generation takes: filling a spare slot, and the one store that flips.

In:   two generations of 10² to 10⁵ entries, flipped back and forth
Out:  fill times; flip percentiles
Shell.
"""

from __future__ import annotations

import time
from typing import Final

from benchmarks.datapath_world import generation_of, label_of, loaded_datapath
from benchmarks.report import Result, percentile
from nodeagent.datapath import Datapath

SIZES: Final = (100, 10_000, 100_000)
FLIPS: Final = 10_000
FLIP_TARGET_MICROSECONDS: Final = 50.0


def run() -> list[Result]:
    """Measure."""
    results = []
    for entries in SIZES:
        with loaded_datapath() as datapath:
            slots, fill_ms = _fill_two(datapath, entries)
            flips = _flip(datapath, slots)
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
    return results


def _fill_two(datapath: Datapath, entries: int) -> tuple[tuple[int, int], float]:
    """Two slots in use, as after a rollout; how long the second fill took."""
    first, second = generation_of(entries), generation_of(entries + 1)
    one = datapath.fill(first, label=label_of(first))
    datapath.activate(one)
    begun = time.perf_counter()
    other = datapath.fill(second, label=label_of(second))
    return (one, other), (time.perf_counter() - begun) * 1e3


def _flip(datapath: Datapath, slots: tuple[int, int]) -> list[float]:
    """Microseconds of each `activate`, its check of the slot's label included."""
    taken = []
    for number in range(FLIPS):
        begun = time.perf_counter_ns()
        datapath.activate(slots[number % 2])
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken
