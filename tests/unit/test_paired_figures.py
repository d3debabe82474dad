"""Figures taken in pairs: what both sides of a pair share cancels, and the bounds hold the median."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random

from benchmarks.datapath.paired import measure_pairs, ratio_of


class Machine:
    """Slower and slower, and by a twentieth slower while policy is applied."""

    def __init__(self) -> None:
        self._turns = count()
        self._is_applied = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        self._is_applied = True
        yield
        self._is_applied = False

    def figure(self, _mode: str) -> float:
        return (1 + next(self._turns) / 10) * (1.05 if self._is_applied else 1.0)


def test_a_drift_of_the_machine_cancels() -> None:
    machine = Machine()
    taken = measure_pairs(machine.applied, machine.figure, ["ask"], pairs=101)
    assert abs(taken["ask"].median - 1.05) < 0.01


def test_the_bounds_hold_the_true_median_in_most_runs() -> None:
    random = Random(7)
    held = 0
    for _ in range(400):
        ratio = ratio_of([random.lognormvariate(0, 0.1) for _ in range(60)])
        assert ratio.least <= ratio.median <= ratio.most
        held += ratio.least <= 1 <= ratio.most
    assert held >= 372
