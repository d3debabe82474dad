"""The benchmarks' pictures.

In:   series of (rules or entries, figure)
Out:  an SVG file
Shell: writes one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Series = Mapping[str, Sequence[tuple[int, float]]]


def draw_packet_costs(costs: Series, path: Path) -> None:
    """Nanoseconds a packet by the number of policy entries."""
    figure = Figure(figsize=(8, 5))
    axes = figure.add_subplot()
    _draw(axes, costs)
    axes.set(
        title="The program's cost by the number of policy entries",
        xlabel="policy entries",
        ylabel="ns a packet beyond an empty program",
    )
    _save(figure, path)


def draw_connections(panels: Mapping[str, Series], path: Path) -> None:
    """One panel a measurement: each contestant's figure by its number of rules."""
    figure = Figure(figsize=(5 * len(panels), 4.5))
    for number, (title, series) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        _draw(axes, series)
        axes.set(title=title, xlabel="rules", ylabel="times no policy")
    _save(figure, path)


def _draw(axes: Axes, series: Series) -> None:
    for name, points in series.items():
        axes.plot([at for at, _ in points], [value for _, value in points], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")


def _save(figure: Figure, path: Path) -> None:
    """Text stays text, and equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tidegate"}):
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})
