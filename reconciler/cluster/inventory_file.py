"""The inventory file of standalone mode, watched.

In:   a path
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
from netpolicy.inventory_file import decode_inventory

log = structlog.get_logger()

DEBOUNCE_MILLISECONDS: Final = 50
MAX_INVENTORY_BYTES: Final = 64 * 1024 * 1024


async def watch_inventory(path: Path) -> AsyncIterator[Inventory]:
    """Yield the inventory whenever it is good and differs from the last one."""
    last: Inventory | None = None
    # The folder is watched, not the file: writers replace it by rename.
    changes = awatch(path.parent, debounce=DEBOUNCE_MILLISECONDS, recursive=False)
    while True:
        inventory = await asyncio.to_thread(_read, path)
        if inventory is not None and inventory != last:
            last = inventory
            yield inventory
        try:
            await anext(changes)
        except StopAsyncIteration:
            return


def _read(path: Path) -> Inventory | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INVENTORY_BYTES + 1)
    except OSError as error:
        log.error("inventory_unreadable", path=str(path), error=error.strerror)
        return None
    if len(data) > MAX_INVENTORY_BYTES:
        log.error("inventory_too_large", path=str(path), limit_bytes=MAX_INVENTORY_BYTES)
        return None
    inventory, diagnostics = decode_inventory(str(path), data)
    for diagnostic in diagnostics:
        log.error("inventory_fault", diagnostic=render(diagnostic))
    return inventory
