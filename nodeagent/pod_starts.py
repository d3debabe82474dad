"""What this node's pods are, from the inventory and the runtime; and when they are judged.

In:   inventories, sandboxes
Out:  views for the planner; what a starting pod still lacks
Shell over the planner, the placement and the enforcer. Implements `nodeagent.cni.gate.PodStarts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from netpolicy.inventory import Inventory
from nodeagent.cni.sandboxes import Sandbox, with_sandboxes
from nodeagent.endpoints.local_pods import LocalView, local_pods, local_view
from nodeagent.enforcer import Enforcer
from nodeagent.placement import Placement
from nodeagent.plan.generation import LocalEndpoint
from nodeagent.plan.inputs import LocalPod
from nodeagent.planner import Planner


class PodsOfNode:
    """Joins what two sources say of the same pods."""

    def __init__(
        self,
        planner: Planner,
        placement: Placement,
        enforcer: Enforcer,
        *,
        node: str,
        sandboxes: tuple[Sandbox, ...] = (),
        guarded: Callable[[], Awaitable[None]] | None = None,
        listed: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._planner = planner
        self._placement = placement
        self._enforcer = enforcer
        self._node = node
        self._sandboxes = sandboxes
        self._guarded = guarded
        self._listed = listed
        self._inventory: Inventory | None = None
        self._view: LocalView | None = None

    def take_inventory(self, inventory: Inventory) -> None:
        """Use what the inventory says."""
        self._inventory = inventory
        self._show(local_view(self._completed(inventory), self._node))

    def take_sandboxes(self, sandboxes: tuple[Sandbox, ...]) -> None:
        """Use what the runtime said of this node's pods."""
        self._sandboxes = sandboxes
        if self._inventory is not None and self._view is not None:
            # Only this node's pods: what the whole cluster's addresses mean stays as it was.
            pods = local_pods(self._completed(self._inventory), self._node)
            self._show(replace(self._view, pods=pods))

    async def guard(self, interfaces: Mapping[str, int]) -> None:
        """Let nothing pass these (name → index) from now on, unless they are judged already."""
        self._planner.guard_interfaces(interfaces)
        if self._guarded is not None:
            await self._guarded()

    async def next_placement(self) -> None:
        """Wait until something was put under policy, or could not be."""
        await self._planner.placements.next()

    def is_ready(self) -> bool:
        """True if some plan is in force."""
        return self._planner.first_plan.is_set()

    def awaits(self, sandbox: Sandbox) -> str:
        """What the pod still lacks to be under policy; empty if it is."""
        name = f"{sandbox.namespace}/{sandbox.name}"
        pod = next((p for p in self._pods() if (p.namespace, p.name) == _name(sandbox)), None)
        if pod is None:
            return f"the inventory does not list {name} on {self._node} yet"
        if sandbox.interface and pod.interface != sandbox.interface:
            return (
                f"the inventory has {name} on {pod.interface}, the runtime on {sandbox.interface}"
            )
        if not set(sandbox.addresses) <= set(pod.addresses):
            return f"the inventory gives {name} other addresses than the runtime"
        endpoint = self._endpoint(pod)
        if endpoint is None or self._enforcer.is_torn:
            error = self._planner.status.error
            return f"the policy of {name} is not in force yet" + (f": {error}" if error else "")
        if endpoint not in self._placement.placed.values():
            return f"interface {pod.interface} of {name} is not attached yet"
        return ""

    def _pods(self) -> tuple[LocalPod, ...]:
        return self._view.pods if self._view else ()

    def _endpoint(self, pod: LocalPod) -> LocalEndpoint | None:
        """The pod in the plan that the kernel enforces; None if it is not there as it is now."""
        installed = self._enforcer.installed
        if installed is None or pod not in installed.plan.inputs.pods:
            return None
        endpoints = installed.plan.endpoints
        return next((e for e in endpoints if e.endpoint_id == pod.endpoint_id), None)

    def _completed(self, inventory: Inventory) -> Inventory:
        if not self._sandboxes:
            return inventory
        pods = with_sandboxes(inventory.pods, self._sandboxes, node=self._node)
        return replace(inventory, pods=pods)

    def _show(self, view: LocalView) -> None:
        if view != self._view:
            self._view = view
            self._listed(pod.interface for pod in view.pods)
            self._planner.take_view(view)


def _name(sandbox: Sandbox) -> tuple[str, str]:
    return sandbox.namespace, sandbox.name
