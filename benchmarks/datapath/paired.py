"""What policy costs a real connection, to a percent: many short runs with it and without it, in turn.

    without ─ with ─ with ─ without ─ without ─ with ─ …      each with beside the without that is next to it

In:   a contestant, and a figure that is measured with and without it
Out:  the median of the pairs' ratios, and between which two of them the true median lies
Shell by what it is given; the statistics are pure.

What else the machine does lasts longer than a pair, and so stands on both sides of its ratio.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

_DEVIATIONS: Final = 1.96
"""Of a normal distribution: 95 % lie within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A median of ratios; with 95 % confidence the true one is from `least` to `most`."""

    median: float
    least: float
    most: float


def measure_pairs(
    applied: Callable[[], AbstractContextManager[None]],
    measure: Callable[[str], float],
    modes: Sequence[str],
    pairs: int,
) -> dict[str, Ratio]:
    """Of each mode: its figure with what is `applied`, in terms of that without."""
    ratios: dict[str, list[float]] = {mode: [] for mode in modes}
    for pair in range(pairs):
        figures: list[dict[str, float]] = [{}, {}]
        for is_applied in (pair % 2, 1 - pair % 2):
            with applied() if is_applied else nullcontext():
                figures[is_applied] = {mode: measure(mode) for mode in modes}
        for mode in modes:
            ratios[mode].append(figures[1][mode] / figures[0][mode])
    return {mode: ratio_of(taken) for mode, taken in ratios.items()}


def ratio_of(taken: Sequence[float]) -> Ratio:
    """The median, and by order alone the two between which the true one lies."""
    ordered = sorted(taken)
    aside = _DEVIATIONS * math.sqrt(len(ordered)) / 2
    least = max(0, math.floor(len(ordered) / 2 - aside))
    return Ratio(
        median=statistics.median(ordered),
        least=ordered[least],
        most=ordered[len(ordered) - 1 - least],
    )
