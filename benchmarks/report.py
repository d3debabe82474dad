"""One measured figure, and where figures go.

In:   Result values
Out:  a table for people, build/bench/NAME.json for programs
Shell: prints, and writes one file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

DIRECTORY: Final = Path(__file__).resolve().parents[1] / "build" / "bench"
QUICK_DIRECTORY: Final = DIRECTORY / "quick"
"""Rough figures lie apart: they never replace the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A figure; smaller is better. `baseline` is what `ratio` divides by, in the same unit.

    `target` bounds the ratio if there is a baseline, else the value itself.
    """

    metric: str
    value: float
    unit: str
    baseline: float | None = None
    target: float | None = None

    @property
    def ratio(self) -> float | None:
        """The value in terms of the baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def ok(self) -> bool | None:
        """Within the target; None where none is set."""
        if self.target is None:
            return None
        judged = self.ratio if self.baseline is not None else self.value
        return judged is not None and judged <= self.target

    def record(self) -> dict[str, Any]:
        """The figure as it is written."""
        return {**asdict(self), "ratio": self.ratio, "ok": self.ok}


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]


def write(name: str, results: Sequence[Result], directory: Path = DIRECTORY) -> Path:
    """Replace the file of this benchmark; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps([result.record() for result in results], indent=2) + "\n")
    fresh.rename(path)
    return path


def show(name: str, results: Sequence[Result]) -> None:
    """Print the table."""
    table = Table(title=name)
    for title in ("metric", "value", "unit", "baseline", "ratio", "target", "ok"):
        table.add_column(title, justify="left" if title in ("metric", "unit") else "right")
    for result in results:
        within = {True: "[green]yes", False: "[red]no", None: ""}[result.ok]
        figures = (result.baseline, result.ratio, result.target)
        table.add_row(
            result.metric, _figure(result.value), result.unit, *map(_figure, figures), within
        )
    Console().print(table)


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
