"""Where this node's pods are learned of: a file, or a cluster.

In:   AgentConfig
Out:  a PodSource: inventories as they change; what is wrong, for people
Shell. What speaks to a cluster is loaded in a cluster only: its library is heavy, and need not be there
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from netpolicy.inventory import Inventory
from netpolicy.inventory_watch import watch_inventory
from nodeagent.config import AgentConfig

TakeInventory = Callable[[Inventory], None]


class PodSource(Protocol):
    """Who says which pods are here."""

    async def follow(self, take: TakeInventory) -> None:
        """Give every inventory that is another than the last, until cancelled."""

    def look_again(self) -> None:
        """Interfaces came or went."""

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""


def pod_source(config: AgentConfig) -> PodSource:
    """The one that is configured."""
    if config.kubernetes is None:
        return FilePods(config.inventory)
    from nodeagent.cluster_pods import ClusterPods  # noqa: PLC0415

    return ClusterPods(config.kubernetes, node=config.node)


class FilePods:
    """The inventory file of standalone mode, which names each pod's interface."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def follow(self, take: TakeInventory) -> None:
        """Give what the file says."""
        async for inventory in watch_inventory(self._path):
            take(inventory)

    def look_again(self) -> None:
        """The file says what there is."""

    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the file is logged."""
        return ()
