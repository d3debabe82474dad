"""Where this node's pods are learned of: a file, or a cluster.

In:   AgentConfig
Out:  a PodSource: inventories as they change; what is wrong, for people
Shell: owns the connection to the API server, and the one to the container runtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from netpolicy.inventory import Inventory
from netpolicy.inventory_watch import watch_inventory
from netpolicy.kube_api import KubeApi
from nodeagent.config import AgentConfig, KubernetesConfig
from nodeagent.endpoints.cri import ContainerRuntime, usual_socket
from nodeagent.endpoints.kubernetes import KubernetesPods
from nodeagent.endpoints.pod_interfaces import PodInterfaces

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


class ClusterPods:
    """The Kubernetes API, and the node's container runtime."""

    def __init__(self, config: KubernetesConfig, *, node: str) -> None:
        self._config = config
        self._node = node
        self._pods: KubernetesPods | None = None

    async def follow(self, take: TakeInventory) -> None:
        """Give what the API server says. Raises StalledError if it cannot be known where that is."""
        api = await KubeApi.connect(self._config.kubeconfig)
        socket = self._config.runtime or usual_socket()
        runtime = ContainerRuntime(socket) if socket else None
        pods = KubernetesPods(
            api,
            node=self._node,
            cluster=self._config.cluster,
            interfaces=PodInterfaces(runtime),
        )
        self._pods = pods
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pods.run())
                async for inventory in pods.inventories():
                    take(inventory)
        finally:
            await api.close()
            if runtime is not None:
                await runtime.close()

    def look_again(self) -> None:
        """A pod's interface may be there by now."""
        if self._pods is not None:
            self._pods.look_again()

    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the API server, the runtime, or a pod's interface."""
        return self._pods.alarms() if self._pods is not None else ()
