"""What the inventory file of standalone mode says of this node, whenever that changes.

In:   the file's path, the node's name
Out:  a LocalView now, and another after each change that matters
Shell.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from netpolicy.inventory_watch import watch_inventory
from nodeagent.endpoints.local_pods import LocalView, local_view


async def watch_local_view(path: Path, node: str) -> AsyncIterator[LocalView]:
    """Yield the node's view whenever it differs from the last one."""
    last: LocalView | None = None
    async for inventory in watch_inventory(path):
        view = local_view(inventory, node)
        if view != last:
            last = view
            yield view
