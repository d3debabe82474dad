"""Who is in the cluster, from the Kubernetes API.

In:   a KubeApi
Out:  a step to the inventory once all kinds are known, and another after each change
Shell: five watches. What objects mean is `netpolicy.kube_inventory`'s part.

Holds always:
1. There is no inventory before every kind was listed whole: half of one would cut pods off.
2. A server that is away, slow or restarted leaves the last inventory as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

from netpolicy.inventory import Inventory, InventoryStep
from netpolicy.inventory_book import InventoryBook
from netpolicy.kube_api import KubeApi
from netpolicy.kube_objects import (
    API_SERVER,
    API_SERVER_ENDPOINTS,
    NAMESPACES,
    NODES,
    OF_API_SERVER,
    PODS,
    SERVICES,
    EndpointsObject,
    NamespaceObject,
    NodeObject,
    PodObject,
    ServiceObject,
    endpoints_view,
    namespace_view,
    node_view,
    pod_view,
    service_view,
)
from netpolicy.kube_watch import KubeWatch

GATHER_SECONDS: Final = 0.02
"""How long the first change waits for others: a pod that starts changes several times at once."""

REST_SECONDS: Final = 0.25
"""Between two readings: pods start by the dozen, and each step is told to every node."""


class ClusterInventory:
    """The inventory of one cluster; `run` keeps it in step."""

    def __init__(self, api: KubeApi, *, cluster: str) -> None:
        self._cluster = cluster
        self._woken = asyncio.Event()
        woken = self._woken.set
        self._pods = KubeWatch(api, PODS, PodObject, pod_view, changed=woken)
        self._nodes = KubeWatch(api, NODES, NodeObject, node_view, changed=woken)
        self._namespaces = KubeWatch(
            api, NAMESPACES, NamespaceObject, namespace_view, changed=woken
        )

        self._endpoints = KubeWatch(
            api,
            API_SERVER_ENDPOINTS,
            EndpointsObject,
            endpoints_view,
            changed=woken,
            selector=OF_API_SERVER,
        )
        self._services = KubeWatch(api, SERVICES, ServiceObject, service_view, changed=woken)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self.watches:
                tasks.create_task(watch.run())

    @property
    def watches(self) -> tuple[KubeWatch[Any, Any], ...]:
        """One for each kind."""
        return (self._pods, self._nodes, self._namespaces, self._endpoints, self._services)

    async def steps(self) -> AsyncIterator[InventoryStep]:
        """The inventory now, if there is one, and whenever it is another than the last.

        One reader at a time: what changed is told once.
        """
        last: Inventory | None = None
        book = InventoryBook()  # one's own: a thread of the term before may still be at its last
        loop = asyncio.get_running_loop()
        while True:
            read_at = loop.time()
            if all(watch.cache.is_synced for watch in self.watches):
                step = await self._step(book, is_first=last is None)
                if step.inventory != last:
                    last = step.inventory
                    yield step
            await self._woken.wait()
            await asyncio.sleep(max(GATHER_SECONDS, read_at + REST_SECONDS - loop.time()))
            self._woken.clear()

    async def _step(self, book: InventoryBook, *, is_first: bool) -> InventoryStep:
        """The step to this moment; of many pods at once it takes a second, in which the Lease must go on
        being renewed."""
        pods, touched = self._pods.cache.items, self._pods.cache.take_touched()
        is_whole = is_first or touched is None
        make = partial(
            book.step,
            cluster=self._cluster,
            pods=dict(pods)
            if touched is None or is_first
            else {key: pods.get(key) for key in touched},
            is_whole=is_whole,
            nodes=tuple(self._nodes.cache.items.values()),
            namespaces={name: labels for (_, name), labels in self._namespaces.cache.items.items()},
            api_server=tuple(self._api_server()),
            services=tuple(self._services.cache.items.values()),
        )
        return await asyncio.to_thread(make) if is_whole else make()

    def _api_server(self) -> Iterator[str]:
        """Where the API server answers: its own addresses, and those of the service before it."""
        for addresses in self._endpoints.cache.items.values():
            yield from addresses
        service = self._services.cache.items.get(API_SERVER)
        if service is not None:
            yield from service.addresses
