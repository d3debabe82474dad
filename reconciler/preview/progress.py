"""Tell whoever waits at a terminal how much of an export is read.

In:   bytes read, and of how many
Out:  a line on standard error that moves, and is gone at the end
Shell over the terminal. Without one nothing is told.

Holds always:
1. No thread of its own: processes are forked meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from reconciler.preview.replay import Progress


@contextmanager
def at_terminal() -> Iterator[Progress | None]:
    """What to tell; None if nobody looks."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("reading flows", total=None)

        def tell(done: int, total: int) -> None:
            doing = "judging flows" if 0 < total <= done else "reading flows"
            bar.update(task, completed=done, total=total or None, description=doing, refresh=True)

        yield tell
