"""Print what `tidegate` shows to people.

In:   lines of text and tables
Out:  standard output
Shell. Nothing is cut: a terminal's narrow columns are folded, and where there is no terminal (a pipe, a
file) lines are as long as they need to be. Square brackets are text, never markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

WIDTH_OF_FILES: Final = 1000


def print_parts(parts: Iterable[Table | str]) -> None:
    """One part below the other."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, soft_wrap=True, width=WIDTH_OF_FILES)
    for part in parts:
        if isinstance(part, Table):
            for column in part.columns:
                column.overflow = "fold"
        console.print(part)
