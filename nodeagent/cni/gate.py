"""Hold a pod's start until it is under policy.

In:   Request values of the plugin
Out:  Answer values; sandboxes kept, interfaces guarded
Shell. Joins what the runtime says with what the agent does anyway; decides no policy.

Holds always:
1. Nothing passes the pod's interface from before its ADD is looked at until a plan with the pod is in force.
2. DONE is answered to ADD only if the kernel enforces a plan in which this very pod, with the addresses of
   the result, is behind the interface of the result.
3. Each command may come twice, and after a death of the agent: the second does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

import structlog

from nodeagent.cni.messages import Answer, CniCode, Outcome, Refusal, Request
from nodeagent.cni.sandboxes import Sandbox, read_sandbox, still_valid
from nodeagent.cni.store import SandboxStore
from nodeagent.endpoints.links import Link, read_links

log = structlog.get_logger()

POD_HELD: Final = "pod_held"
POD_RELEASED: Final = "pod_released"
POD_NOT_READY: Final = "pod_not_ready"
POD_REFUSED: Final = "pod_refused"
SANDBOX_NOT_FORGOTTEN: Final = "sandbox_not_forgotten"

DONE: Final = Answer(outcome=Outcome.DONE)


class PodStarts(Protocol):
    """What the gate asks of the rest of the agent."""

    async def guard(self, interfaces: Mapping[str, int]) -> None:
        """Let nothing pass these (name → index) from now on, unless they are judged already."""

    def take_sandboxes(self, sandboxes: tuple[Sandbox, ...]) -> None:
        """Use what the runtime said of this node's pods."""

    def awaits(self, sandbox: Sandbox) -> str:
        """What the pod still lacks to be under policy; empty if it is."""

    async def next_placement(self) -> None:
        """Wait until something was put under policy, or could not be."""

    def is_ready(self) -> bool:
        """True if some plan is in force."""


class Gate:
    """Answers the plugin. Calls may overlap; those for one pod do what the last one says."""

    def __init__(
        self,
        starts: PodStarts,
        store: SandboxStore,
        links: Callable[[], tuple[Link, ...]] = read_links,
    ) -> None:
        self._starts = starts
        self._store = store
        self._links = links
        self._storing = asyncio.Lock()

    async def answer(self, request: Request) -> Answer:
        """Grant, refuse, or tell what was waited for in vain."""
        commands = {
            "ADD": self._add,
            "CHECK": self._check,
            "DEL": self._delete,
            "GC": self._collect,
            "STATUS": self._status,
        }
        if request.command not in commands:
            return _refused(Refusal(CniCode.BAD_ENVIRONMENT, "unknown command"))
        try:
            return await commands[request.command](request)
        except Refusal as refusal:
            log.warning(
                POD_REFUSED,
                command=request.command,
                container=request.container,
                error=str(refusal),
            )
            return _refused(refusal)

    async def _add(self, request: Request) -> Answer:
        asked = read_sandbox(request)
        pairs = {
            link.name: link.index
            for link in self._links()
            if link.leads_elsewhere and link.name in asked.interfaces
        }
        await self._starts.guard(pairs)
        sandbox = replace(asked, interface=next(reversed(pairs), ""))
        await self._keep(sandbox)
        return await self._hold(sandbox, request)

    async def _hold(self, sandbox: Sandbox, request: Request) -> Answer:
        loop = asyncio.get_running_loop()
        started = loop.time()
        bound = log.bind(namespace=sandbox.namespace, pod=sandbox.name, interface=sandbox.interface)
        bound.debug(POD_HELD)
        while lack := self._starts.awaits(sandbox):
            left = started + request.budget_seconds - loop.time()
            try:
                await asyncio.wait_for(self._starts.next_placement(), left)
            except TimeoutError:
                bound.warning(POD_NOT_READY, why=lack)
                return _not_ready(lack)
        bound.info(POD_RELEASED, milliseconds=round((loop.time() - started) * 1000, 1))
        return DONE

    async def _check(self, request: Request) -> Answer:
        sandbox = self._store.of_container(request.container)
        lack = self._starts.awaits(sandbox) if sandbox else "the pod was never added"
        return _not_ready(lack) if lack else DONE

    async def _delete(self, request: Request) -> Answer:
        return await self._forget(frozenset({request.container}))

    async def _collect(self, request: Request) -> Answer:
        valid = still_valid(request.configuration)
        return await self._forget(frozenset(s.container for s in self._store.sandboxes) - valid)

    async def _status(self, _request: Request) -> Answer:
        return DONE if self._starts.is_ready() else _not_ready("the agent has no plan in force yet")

    async def _keep(self, sandbox: Sandbox) -> None:
        async with self._storing:
            try:
                await asyncio.to_thread(self._store.put, sandbox)
            except OSError as error:
                raise Refusal(CniCode.IO_FAILURE, f"the sandbox cannot be kept: {error}") from error
            self._starts.take_sandboxes(self._store.sandboxes)

    async def _forget(self, containers: frozenset[str]) -> Answer:
        async with self._storing:
            try:
                known = await asyncio.to_thread(self._store.remove, containers)
            except OSError as error:
                # Its interface is gone soon, and a new pod of this name replaces it.
                log.error(SANDBOX_NOT_FORGOTTEN, error=str(error))
                return DONE
            if known:
                self._starts.take_sandboxes(self._store.sandboxes)
        return DONE


def _not_ready(lack: str) -> Answer:
    return Answer(outcome=Outcome.NOT_READY, code=CniCode.TRY_AGAIN, text=lack)


def _refused(refusal: Refusal) -> Answer:
    return Answer(outcome=Outcome.REFUSED, code=refusal.code, text=str(refusal))
