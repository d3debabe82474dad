"""Replay an export file against two policy sets, a part of it in each processor.

In:   a file, the policies before and after, perhaps an inventory
Out:  Replayed
Shell over the file and processes of its own.

Holds always:
1. Every line is in exactly one part; what is kept of one is bounded by the numbers of its columns.
"""

from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

from netpolicy.errors import StalledError
from netpolicy.inventory import Inventory
from netpolicy.rules import Policy
from reconciler.preview.compare import Comparison
from reconciler.preview.export import ExportReader
from reconciler.preview.rows import Replayed, replayed, total
from reconciler.preview.seen_ends import EndReader

BLOCK_BYTES: Final = 4 << 20
PART_BYTES: Final = 64 << 20
"""A smaller part is not worth a process of its own."""
MAX_PARTS: Final = 16
MAX_LINE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Lines that begin at `start` or later, and before `end` (None: to the end)."""

    path: Path
    start: int
    end: int | None
    before: Sequence[Policy]
    after: Sequence[Policy]
    inventory: Inventory | None


def replay_file(
    path: Path,
    before: Sequence[Policy],
    after: Sequence[Policy],
    *,
    inventory: Inventory | None = None,
    part_bytes: int = PART_BYTES,
) -> Replayed:
    """Raises StalledError if the file cannot be read, or has no flow."""
    try:
        parts = [
            _Part(path=path, start=start, end=end, before=before, after=after, inventory=inventory)
            for start, end in _ranges(path, part_bytes)
        ]
        found = total(_replayed(parts))
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error
    except BrokenProcessPool as error:
        raise StalledError(
            f"{path}: a process that read a part of it was ended; memory?"
        ) from error
    if not found.flows:
        why = "; ".join(f"{count} lines {reason}" for reason, count in found.skipped.items())
        raise StalledError(f"{path}: no flow in it, so nothing can be told ({why or 'empty'})")
    return found


def _replayed(parts: Sequence[_Part]) -> Iterator[Replayed]:
    if len(parts) == 1:
        yield _replay(parts[0])
        return
    # Forked, so that nobody sends the policies and the inventory through a pipe.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=context) as processes:
        yield from processes.map(_replay, parts)


def _ranges(path: Path, part_bytes: int) -> list[tuple[int, int | None]]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return [(0, None)]
    parts = min(MAX_PARTS, os.cpu_count() or 1, -(-found.st_size // part_bytes)) or 1
    edges = [found.st_size * n // parts for n in range(parts + 1)]
    return list(pairwise(edges))


def _replay(part: _Part) -> Replayed:
    reader = ExportReader(EndReader(part.inventory))
    with part.path.open("rb") as file:
        for block in _blocks(file, part):
            reader.feed(block)
    comparison = Comparison(reader.observed, part.before, part.after)
    return replayed(reader.observed, comparison, comparison.changes())


def _blocks(file: BinaryIO, part: _Part) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time."""
    at = part.start
    if at:
        file.seek(at - 1)
        at += len(_rest_of_line(file)) - 1
    while part.end is None or at < part.end:
        wanted = BLOCK_BYTES if part.end is None else min(BLOCK_BYTES, part.end - at)
        block = file.read(wanted)
        if not block:
            return
        if not block.endswith(b"\n"):
            block += _rest_of_line(file)
        at += len(block)
        yield block


def _rest_of_line(file: BinaryIO) -> bytes:
    rest = file.readline(MAX_LINE_BYTES)
    if len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
        raise StalledError(f"a line of the export is longer than {MAX_LINE_BYTES} bytes")
    return rest
