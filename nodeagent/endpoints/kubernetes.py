"""Which pods are on this node, from the Kubernetes API, each with its interface.

In:   a KubeApi; PodInterfaces
Out:  an Inventory of this node once all kinds are known, and another after each change
Shell: three watches, of this node's pods, this node, and all namespaces (their labels are the pods').

Holds always:
1. There is no inventory before every kind was listed whole: half of one would cut pods off.
2. An API server that is away, slow or restarted leaves the last inventory as it is.
3. A pod that ends is there until the API says that it is gone. One whose interface is not known for
   certain has none: nothing passes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from netpolicy.inventory import Inventory, Pod
from netpolicy.kube_api import KubeApi
from netpolicy.kube_inventory import inventory_of
from netpolicy.kube_objects import (
    NAMESPACES,
    NODES,
    PODS,
    KubePod,
    NamespaceObject,
    NodeObject,
    PodObject,
    namespace_view,
    node_view,
    pod_view,
)
from netpolicy.kube_watch import KubeWatch
from netpolicy.watch_cache import Key
from nodeagent.endpoints.host_side import HostSide
from nodeagent.endpoints.pod_interfaces import PodInterfaces, Sought

DEBOUNCE_SECONDS: Final = 0.02
"""A pod's start waits for this; several changes of one pod come together."""

RECHECK_SECONDS: Final = 30.0
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""While a pod has an address and no known interface: the runtime may not have said everything yet."""


class KubernetesPods:
    """This node's pods; `run` keeps them in step."""

    def __init__(self, api: KubeApi, *, node: str, cluster: str, interfaces: PodInterfaces) -> None:
        self._cluster = cluster
        self._interfaces = interfaces
        self._woken = asyncio.Event()
        self._unplaced: tuple[str, ...] = ()
        woken = self._woken.set
        here = {"fieldSelector": f"spec.nodeName={node}"}
        this = {"fieldSelector": f"metadata.name={node}"}
        self._pods = KubeWatch(api, PODS, PodObject, pod_view, changed=woken, selector=here)
        self._nodes = KubeWatch(api, NODES, NodeObject, node_view, changed=woken, selector=this)
        self._namespaces = KubeWatch(
            api, NAMESPACES, NamespaceObject, namespace_view, changed=woken
        )

    async def run(self) -> None:
        """Follow the server until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for watch in (self._pods, self._nodes, self._namespaces):
                tasks.create_task(watch.run())

    def look_again(self) -> None:
        """Interfaces came or went."""
        self._woken.set()

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""
        found = []
        trouble = next((watch.trouble for watch in self._watches if watch.trouble), "")
        if trouble:
            found.append(f"the API server is not followed; pods stay as last known: {trouble}")
        if self._unplaced:
            names = ", ".join(self._unplaced)
            found.append(f"the interfaces of {names} are not known: nothing passes there")
        if self._interfaces.trouble:
            found.append(f"interfaces are found without it: {self._interfaces.trouble}")
        return tuple(found)

    async def inventories(self) -> AsyncIterator[Inventory]:
        """The inventory whenever it is another than the last."""
        last: Inventory | None = None
        attempts = 0
        while True:
            await self._wait(attempts)
            inventory = await self._inventory()
            attempts = attempts + 1 if self._unplaced else 0
            if inventory is not None and inventory != last:
                last = inventory
                yield inventory

    @property
    def _watches(self) -> tuple[KubeWatch[Any, Any], ...]:
        return (self._pods, self._nodes, self._namespaces)

    async def _wait(self, attempts: int) -> None:
        patience = RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]
        try:
            async with asyncio.timeout(patience if attempts else RECHECK_SECONDS):
                await self._woken.wait()
                await asyncio.sleep(DEBOUNCE_SECONDS)
        except TimeoutError:
            pass
        self._woken.clear()

    async def _inventory(self) -> Inventory | None:
        if not all(watch.cache.is_synced for watch in self._watches):
            return None
        pods = dict(self._pods.cache.items)
        inventory = inventory_of(
            cluster=self._cluster,
            pods=pods.values(),
            nodes=self._nodes.cache.items.values(),
            namespaces={name: labels for (_, name), labels in self._namespaces.cache.items.items()},
        )
        found = await self._interfaces.find(_sought(inventory.pods, pods))
        self._unplaced = tuple(_unplaced(inventory.pods, pods, found))
        return replace(inventory, pods=tuple(_with_interfaces(inventory.pods, pods, found)))


def _sought(listed: Iterable[Pod], pods: Mapping[Key, KubePod]) -> Iterable[Sought]:
    for pod in listed:
        yield Sought(
            uid=pods[pod.namespace, pod.name].uid,
            namespace=pod.namespace,
            name=pod.name,
            addresses=pod.addresses,
        )


def _with_interfaces(
    listed: Iterable[Pod], pods: Mapping[Key, KubePod], found: Mapping[str, HostSide]
) -> Iterable[Pod]:
    for pod in listed:
        uid = pods[pod.namespace, pod.name].uid
        side = found.get(uid)
        if side is None:
            yield replace(pod, uid=uid)
        else:
            yield replace(pod, uid=uid, interface=side.link.name, mac=side.mac)


def _unplaced(
    listed: Iterable[Pod], pods: Mapping[Key, KubePod], found: Mapping[str, HostSide]
) -> Iterable[str]:
    """Pods that should be reachable and are not. One that is leaving may have lost its network already."""
    for pod in listed:
        known = pods[pod.namespace, pod.name]
        if pod.addresses and not known.is_leaving and known.uid not in found:
            yield f"{pod.namespace}/{pod.name}"
