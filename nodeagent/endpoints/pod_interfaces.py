"""Find the node's interface of each pod, and keep what was found while it is there.

In:   pods with addresses, by uid; the container runtime, if there is one to ask
Out:  pod uid → HostSide; which pods have none
Shell: joins the runtime's answers with the kernel's. `host_side` decides.

Holds always:
1. What was found counts while the very same pair is there, and the pod has the same addresses.
2. No interface is two pods'.
3. A runtime that does not answer leaves the other ways; it never takes away what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import structlog

from netpolicy.errors import TransientError
from nodeagent.endpoints.cri import ContainerRuntime
from nodeagent.endpoints.host_side import HostSide, LookInside, by_claim, by_namespace, by_route
from nodeagent.endpoints.links import Link, read_links
from nodeagent.endpoints.pod_netns import Inside, look_inside, netns_number
from nodeagent.endpoints.routes import read_routes

log = structlog.get_logger()

RUNTIME_SILENT: Final = "container_runtime_silent"
INTERFACE_FOUND: Final = "pod_interface_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """A pod whose interface is wanted."""

    uid: str
    namespace: str
    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What was found, for which addresses, and how."""

    side: HostSide
    addresses: tuple[str, ...]
    way: str


class PodInterfaces:
    """One node's pods' interfaces. `trouble`: why the runtime was not asked, for people."""

    def __init__(self, runtime: ContainerRuntime | None) -> None:
        self._runtime = runtime
        self._found: dict[str, _Found] = {}
        self.trouble = ""

    async def find(self, pods: Iterable[Sought]) -> Mapping[str, HostSide]:
        """Pod uid → its interface, for each pod that has one for certain."""
        sought = {pod.uid: pod for pod in pods if pod.addresses}
        links = await asyncio.to_thread(read_links)
        self._keep(sought, frozenset(links))
        missing = tuple(pod for uid, pod in sought.items() if uid not in self._found)
        if missing:
            namespaces = await self._namespaces(missing)
            fresh = await asyncio.to_thread(_look_for, missing, namespaces, self._free(links))
            for uid, found in fresh.items():
                _tell(sought[uid], found)
            self._found.update(fresh)
        return {uid: found.side for uid, found in self._found.items()}

    def _keep(self, sought: Mapping[str, Sought], links: frozenset[Link]) -> None:
        """Forget pods that are gone or changed addresses, and pairs that are gone or are others by now."""
        self._found = {
            uid: found
            for uid, found in self._found.items()
            if uid in sought
            and sought[uid].addresses == found.addresses
            and found.side.link in links
        }

    def _free(self, links: Iterable[Link]) -> tuple[Link, ...]:
        taken = {found.side.link for found in self._found.values()}
        return tuple(link for link in links if link not in taken)

    async def _namespaces(self, missing: Iterable[Sought]) -> Mapping[str, Path]:
        if self._runtime is None:
            return {}
        try:
            found = await self._runtime.namespaces(pod.uid for pod in missing)
        except TransientError as error:
            if not self.trouble:
                log.warning(RUNTIME_SILENT, error=str(error))
            self.trouble = str(error)
            return {}
        self.trouble = ""
        return found


def _look_for(
    missing: Iterable[Sought], namespaces: Mapping[str, Path], links: tuple[Link, ...]
) -> dict[str, _Found]:
    """Each missing pod's interface. What two of them could have, neither gets."""
    inside = cache(_inside)
    routes = _routes()
    found: dict[str, _Found] = {}
    for pod in missing:
        way, side = _first_way(pod, _number(namespaces.get(pod.uid)), links, routes, inside)
        if side is not None:
            found[pod.uid] = _Found(side=side, addresses=pod.addresses, way=way)
    return _without_shared(found)


def _first_way(
    pod: Sought, number: int, links: tuple[Link, ...], routes: Mapping[str, int], inside: LookInside
) -> tuple[str, HostSide | None]:
    """What the most trusted way that knows anything says. A runtime that names a namespace is believed:
    if nothing leads there, the others could only name somebody else's.
    """
    if number >= 0:
        return "runtime", by_namespace(links, number, inside, pod.addresses)
    side = by_route(links, routes, inside, pod.addresses)
    if side is not None:
        return "route", side
    return "address", by_claim(links, inside, pod.addresses)


def _without_shared(found: dict[str, _Found]) -> dict[str, _Found]:
    owners: dict[Link, list[str]] = {}
    for uid, one in found.items():
        owners.setdefault(one.side.link, []).append(uid)
    return {uid: one for uid, one in found.items() if len(owners[one.side.link]) == 1}


def _number(path: Path | None) -> int:
    if path is None:
        return -1
    try:
        return netns_number(path)
    except OSError:
        return -1  # it ended meanwhile, or its path is not mounted where the agent runs


def _inside(number: int) -> tuple[Inside, ...]:
    try:
        return look_inside(number)
    except OSError:
        return ()


def _routes() -> Mapping[str, int]:
    try:
        return read_routes()
    except OSError:
        return {}


def _tell(pod: Sought, found: _Found) -> None:
    log.info(
        INTERFACE_FOUND,
        namespace=pod.namespace,
        pod=pod.name,
        interface=found.side.link.name,
        way=found.way,
    )
