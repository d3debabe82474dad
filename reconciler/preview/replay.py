"""Replay an export file against two policy sets, with all processors.

In:   a file, the policies before and after, perhaps an inventory
Out:  Replayed
Shell over processes of its own: they read in turns, then each judges the flows to a share of the workloads.

Holds always:
1. What is kept of a line is bounded: its source's number, four bytes. Ends are kept once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from netpolicy.errors import StalledError
from netpolicy.inventory import Inventory
from netpolicy.rules import Policy
from reconciler.preview.blocks import PlainFile, open_export
from reconciler.preview.by_workload import Replay
from reconciler.preview.compare import Comparison
from reconciler.preview.export import ExportReader
from reconciler.preview.observed import Observed, joined
from reconciler.preview.rows import Replayed, total
from reconciler.preview.seen_ends import EndReader
from reconciler.preview.workers import in_processes

MAX_PROCESSES: Final = 16
ALONE: Final = 50_000
"""So few flows are judged before other processes would have begun."""

Progress = Callable[[int, int], None]
"""Told bytes that were read, and of how many (0: nobody knows)."""


def replay_file(
    path: Path,
    before: Sequence[Policy],
    after: Sequence[Policy],
    *,
    inventory: Inventory | None = None,
    progress: Progress | None = None,
    processes: int | None = None,
) -> Replayed:
    """Raises StalledError if the file cannot be read, or has no flow."""
    most = processes or min(MAX_PROCESSES, os.cpu_count() or 1)
    try:
        observed = _observed(path, inventory, most, progress)
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error
    except StalledError as error:
        raise StalledError(f"{path}: {error}") from error
    flows = len(observed)
    if not flows:
        why = "; ".join(f"{count} lines {reason}" for reason, count in observed.skipped.items())
        raise StalledError(f"{path}: no flow in it, so nothing can be told ({why or 'empty'})")
    replay = Replay(observed, Comparison(observed, before, after))
    shares = most if processes or flows > ALONE else 1
    found = total(in_processes(lambda number: replay.share(number, shares), shares))
    return replace(found, flows=flows, skipped=observed.skipped)


def _observed(
    path: Path, inventory: Inventory | None, most: int, progress: Progress | None
) -> Observed:
    export = open_export(path)

    def look() -> None:
        if progress is not None:
            progress(export.done, export.size)

    def read(_: int) -> Observed:
        reader = ExportReader(EndReader(inventory))
        for number, block in export.blocks():
            reader.feed(block, number)
        return reader.observed

    if isinstance(export, PlainFile):
        return joined(in_processes(read, min(most, export.turns), look=look))

    def give_or_read(number: int) -> Observed:
        if number:
            return read(number)
        export.give(most)
        return Observed()

    return joined(in_processes(give_or_read, 1 + most, look=look))
