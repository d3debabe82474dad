"""Watch the inventory file of standalone mode.

In:   the file's path
Out:  an Inventory now, and another after each change
Shell over one file. A file that is missing, half-written or faulty keeps the last good inventory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog
from watchfiles import awatch

from netpolicy.errors import render
from netpolicy.inventory import Inventory
from netpolicy.inventory_file import INVENTORY_LIMITS, decode_inventory

log = structlog.get_logger()

INVENTORY_UNREADABLE: Final = "inventory_unreadable"
INVENTORY_REFUSED: Final = "inventory_refused"

DEBOUNCE_MILLISECONDS: Final = 50
RECHECK_MILLISECONDS: Final = 2_000
"""Also look this often: the watch begins after the first reading, and some file systems say nothing."""

Stamp = tuple[int, int, int]


async def watch_inventory(path: Path) -> AsyncIterator[Inventory]:
    """Yield the inventory whenever the file is good and says something else than the last one."""
    last: Inventory | None = None
    seen: Stamp | None = None
    # The folder is watched, not the file: writers replace it by rename.
    changes = awatch(
        path.parent,
        debounce=DEBOUNCE_MILLISECONDS,
        step=10,
        rust_timeout=RECHECK_MILLISECONDS,
        yield_on_timeout=True,
        recursive=False,
    )
    while True:
        stamp = _stamp(path)
        if stamp != seen or stamp is None:
            seen = stamp
            inventory = await asyncio.to_thread(_read, path)
            if inventory is not None and inventory != last:
                last = inventory
                yield inventory
        try:
            await anext(changes)
        except StopAsyncIteration:
            return


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _read(path: Path) -> Inventory | None:
    try:
        with path.open("rb") as file:
            data = file.read(INVENTORY_LIMITS.size_bytes + 1)
    except OSError as error:
        log.error(INVENTORY_UNREADABLE, path=str(path), error=error.strerror)
        return None
    inventory, faults = decode_inventory(str(path), data)
    if inventory is None:
        log.error(INVENTORY_REFUSED, path=str(path), faults=[render(fault) for fault in faults])
    return inventory
