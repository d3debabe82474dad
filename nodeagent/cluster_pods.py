"""This node's pods, as the Kubernetes API and the node's container runtime say.

In:   KubernetesConfig
Out:  a `nodeagent.pod_source.PodSource`
Shell: owns the connection to the API server, and the one to the container runtime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from netpolicy.inventory import Inventory
from netpolicy.kube_api import KubeApi
from nodeagent.config import KubernetesConfig
from nodeagent.endpoints.cri import ContainerRuntime, usual_socket
from nodeagent.endpoints.kubernetes import KubernetesPods
from nodeagent.endpoints.pod_interfaces import PodInterfaces


class ClusterPods:
    """The Kubernetes API, and the node's container runtime."""

    def __init__(self, config: KubernetesConfig, *, node: str) -> None:
        self._config = config
        self._node = node
        self._pods: KubernetesPods | None = None

    async def follow(self, take: Callable[[Inventory], None]) -> None:
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
