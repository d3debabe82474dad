"""The inventory as it is now, and its way to the agents.

In:   steps of the inventory, as the surroundings tell them
Out:  address entries and node keys for the push server; the inventory for whoever asks
Shell over the surroundings and the push server.

Holds always:
1. Which keys count is settled before the entries go out that would look like nodes without any.
2. Much work is done beside the event loop, which goes on serving agents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog

from netpolicy.address_book import AddressBook
from netpolicy.inventory import Inventory, InventoryStep
from reconciler.encryption.places import Places
from reconciler.encryption.watch import EncryptionWatch
from reconciler.push import PushServer
from reconciler.surroundings import Surroundings

log = structlog.get_logger()

FEW_PODS: Final = 500
"""So many changed pods take a moment; more are worked through beside the event loop."""


class InventoryFeed:
    """Follows one inventory."""

    def __init__(
        self,
        surroundings: Surroundings,
        push: PushServer,
        encryption: EncryptionWatch,
        *,
        cluster: str,
        changed: Callable[[bool], None],
    ) -> None:
        """`changed` is told after each step whether the nodes are the same as before."""
        self._surroundings = surroundings
        self._push = push
        self._encryption = encryption
        self._cluster = cluster
        self._changed = changed
        self._addresses = AddressBook()
        self._is_known = asyncio.Event()
        self.inventory = Inventory(cluster=cluster)

    @property
    def nodes(self) -> frozenset[str]:
        """The names of all nodes."""
        return frozenset(node.name for node in self.inventory.nodes)

    async def until_known(self, *, seconds: float) -> None:
        """Wait for the first step, but no longer than this."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_known.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        async for found in self._surroundings.inventory_steps():
            await self._take(found)

    async def _take(self, found: InventoryStep) -> None:
        before = self.inventory
        self.inventory = replace(found.inventory, cluster=self._cluster)
        same_nodes = self.inventory.nodes == before.nodes and self._is_known.is_set()
        await self._feed(replace(found, inventory=self.inventory), same_nodes)
        log.info(
            "inventory_read",
            nodes=len(self.inventory.nodes),
            pods=len(self.inventory.pods),
            changed_pods=len(found.pods),
        )
        self._is_known.set()
        self._changed(same_nodes)

    async def _feed(self, found: InventoryStep, same_nodes: bool) -> None:
        if same_nodes and len(found.pods) <= FEW_PODS:
            self._encryption.move_pods(found.pods)
            self._push.move_inventory(self._addresses.step(found))
            return
        self._encryption.take_places(await asyncio.to_thread(Places, found.inventory))
        self._push.move_inventory(await asyncio.to_thread(self._addresses.step, found))
