"""A benchmark's figures: targets are judged rightly, and the written file says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import Result, percentile, write


def test_a_target_bounds_the_ratio_where_there_is_a_baseline_and_else_the_value() -> None:
    assert Result(metric="m", value=40, unit="µs", target=50).ok
    assert not Result(metric="m", value=60, unit="µs", target=50).ok
    assert Result(metric="m", value=60, unit="µs", baseline=50, target=1.25).ok
    assert not Result(metric="m", value=70, unit="µs", baseline=50, target=1.25).ok
    assert Result(metric="m", value=70, unit="µs").ok is None


def test_a_ratio_to_nothing_misses_its_target() -> None:
    assert Result(metric="m", value=1, unit="µs", baseline=0.0, target=1.25).ok is False


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 100.0), (99, 198.0), (100, 200.0), (0, 1.0), (0.5, 1.0)]
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(200, 0, -1)], percent) == expected


def test_the_file_holds_every_figure_with_its_ratio_and_judgement(tmp_path: Path) -> None:
    path = write("x", [Result(metric="m", value=3, unit="s", baseline=2, target=2)], tmp_path)
    assert json.loads(path.read_text()) == [
        {
            "metric": "m",
            "value": 3,
            "unit": "s",
            "baseline": 2,
            "target": 2,
            "ratio": 1.5,
            "ok": True,
        }
    ]
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]
