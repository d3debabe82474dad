"""Carry a verified bundle through: write it aside, apply it, make it the last good one.

In:   HeldBundle values that verified
Out:  what is held on disk, and what is in force
Shell over the store and the agent's `apply`. One caller at a time.

Holds always:
1. Order: write beside the last good bundle → apply → rename over it.
2. A change that began is carried through, although the connection that brought it ends.
3. The same policy is not applied twice: fresher metadata alone only replaces metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from netpolicy.errors import RejectedBundle
from nodeagent.receive.store import BundleStore, HeldBundle
from nodeagent.rollout.channels import Channels, InForce

log = structlog.get_logger()

BUNDLE_APPLIED: Final = "bundle_applied"

Apply = Callable[[Channels], Awaitable[InForce]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What this process put in force, and when (seconds since the epoch)."""

    sequence: int
    digest: str
    in_force: InForce
    at: float


class ApplyError(Exception):
    """The agent could not put a bundle in force: what was in force still is."""


class Installer:
    """The bundle this node holds, and the way to a newer one."""

    def __init__(self, store: BundleStore, *, apply: Apply, clock: Callable[[], float]) -> None:
        self._store = store
        self._apply = apply
        self._clock = clock
        self._change: asyncio.Task[None] | None = None
        self.held: HeldBundle | None = store.load()
        self.applied: Applied | None = None

    async def install(self, fetched: HeldBundle) -> None:
        """Raises ApplyError, RejectedBundle or OSError: then the last good bundle is what it was."""
        await self._carry_through(self._install(fetched))

    async def reinstate(self) -> None:
        """Put in force what is held, if this process has not; raises ApplyError."""
        if self.held is not None and self.applied is None:
            await self._carry_through(self._put_in_force(self.held.channels))

    async def settle(self) -> None:
        """Wait for a change that an earlier connection began."""
        if self._change is not None:
            await asyncio.wait({self._change})

    async def _carry_through(self, change: Coroutine[Any, Any, None]) -> None:
        self._change = asyncio.create_task(change)
        await asyncio.shield(self._change)

    async def _install(self, fetched: HeldBundle) -> None:
        await asyncio.to_thread(self._store.stage, fetched.stored)
        if not self._is_in_force(fetched.channels):
            await self._put_in_force(fetched.channels)
        await asyncio.to_thread(self._store.commit)
        self.held = fetched

    async def _put_in_force(self, channels: Channels) -> None:
        try:
            in_force = await self._apply(channels)
        except RejectedBundle:
            raise
        except Exception as error:
            raise ApplyError(f"{type(error).__name__}: {error}") from error
        self.applied = Applied(
            sequence=channels.sequence,
            digest=channels.stable.digest,
            in_force=in_force,
            at=self._clock(),
        )
        log.info(
            BUNDLE_APPLIED,
            revision=channels.stable.revision,
            sequence=channels.sequence,
            digest=channels.stable.digest,
            units=len(channels.stable.units),
            candidate=channels.candidate.revision if channels.candidate else "",
            role=in_force.role,
        )

    def _is_in_force(self, channels: Channels) -> bool:
        applied = self.applied
        return applied is not None and (applied.sequence, applied.digest) == (
            channels.sequence,
            channels.stable.digest,
        )
