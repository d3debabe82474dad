"""Carry a verified bundle through: write it aside, apply it, make it the last good one.

In:   HeldBundle values that verified; word that the reconciler was seen
Out:  what is held on disk, and what is in force
Shell over the store, the trial's file, and the agent's `apply`.

Holds always:
1. Order: write beside the last good bundle → apply → rename over it.
2. A change that began is carried through, although the connection that brought it ends.
3. The same policy is not applied twice: fresher metadata alone only replaces metadata.
4. Where a confirmation is asked for, a bundle that flipped becomes the last good one only when it is
   confirmed; else the last good one comes back into force (`nodeagent.rollout.confirm` decides).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from netpolicy.errors import RejectedBundle
from nodeagent.receive.store import BundleStore, HeldBundle
from nodeagent.receive.trial_file import TrialFile, trial_clock
from nodeagent.rollout.channels import Channels, InForce
from nodeagent.rollout.confirm import (
    Begun,
    Command,
    Confirmed,
    Event,
    Failed,
    Stage,
    Superseded,
    Ticked,
    Trial,
    Unchanged,
    is_refused,
    step,
)

log = structlog.get_logger()

BUNDLE_APPLIED: Final = "bundle_applied"
FLIP_CONFIRMED: Final = "flip_confirmed"
FLIP_TAKEN_BACK: Final = "flip_taken_back"
TRIAL_UNFINISHED: Final = "trial_unfinished"
TRIAL_NOT_SAVED: Final = "trial_not_saved"
REVERTED: Final = "Reverted"
RETRY_SECONDS: Final = 1.0

Apply = Callable[[Channels | None], Awaitable[InForce]]
"""Puts a publication in force, or for None the bootstrap policy."""


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
    """The bundle this node holds, and the ways to a newer one and back."""

    def __init__(
        self,
        store: BundleStore,
        trial: TrialFile,
        *,
        apply: Apply,
        clock: Callable[[], float],
        trial_now: Callable[[], float] = trial_clock,
    ) -> None:
        self._store = store
        self._trial_file = trial
        self._apply = apply
        self._clock = clock
        self._trial_now = trial_now
        self._turn = asyncio.Lock()
        self._trial_moved = asyncio.Event()
        self._went_back = asyncio.Event()
        self._unfinished: Command | None = None
        self._change: asyncio.Task[None] | None = None
        self.trial: Trial = trial.load()
        last_good = store.load()
        awaited = store.load_staged() if self.trial.stage is Stage.AWAITING else None
        self._confirmed = last_good
        self.held: HeldBundle | None = awaited or last_good
        self.applied: Applied | None = None

    async def install(self, fetched: HeldBundle) -> None:
        """Raises ApplyError, RejectedBundle or OSError: then the last good bundle is what it was."""
        await self._carry_through(self._install(fetched))

    async def reinstate(self) -> None:
        """Put in force what is held, if this process has not; raises ApplyError."""
        if self.held is not None and self.applied is None:
            await self._carry_through(self._reinstate(self.held))

    async def confirm(self, sequence: int) -> None:
        """The reconciler was seen after this publication came into force."""
        if self.trial.stage is Stage.AWAITING:
            await self._carry_through(self._confirm(sequence))

    async def settle(self) -> None:
        """Wait for a change that an earlier connection began."""
        if self._change is not None:
            await asyncio.wait({self._change})

    async def going_back(self) -> None:
        """Wait until a publication is taken back from now on."""
        self._went_back.clear()
        await self._went_back.wait()

    async def watch_trial(self) -> None:
        """Take back what is not confirmed in time; for ever."""
        while True:
            self._trial_moved.clear()
            if self._unfinished is None and self.trial.stage is Stage.AWAITING:
                await self._carry_through(self._tick())
            if self._unfinished is not None:
                await self._carry_through(self._finish())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_wait()):
                    await self._trial_moved.wait()

    def _seconds_to_wait(self) -> float | None:
        if self._unfinished is not None:
            return RETRY_SECONDS
        if self.trial.stage is Stage.AWAITING:
            return max(0.0, self.trial.deadline - self._trial_now())
        return None

    async def _carry_through(self, change: Coroutine[Any, Any, None]) -> None:
        task = self._change = asyncio.create_task(self._in_turn(change))
        await asyncio.shield(task)

    async def _in_turn(self, change: Coroutine[Any, Any, None]) -> None:
        async with self._turn:
            await change

    async def _install(self, fetched: HeldBundle) -> None:
        sequence = fetched.channels.sequence
        if is_refused(self.trial, sequence):
            raise RejectedBundle(f"publication {sequence} was taken back", reason=REVERTED)
        if self.trial.stage is Stage.AWAITING:
            # It could only be fetched after the flip: the reconciler was seen.
            await self._confirm(self.trial.sequence)
        await asyncio.to_thread(self._store.stage, fetched.stored)
        is_new = not self._is_in_force(fetched.channels)
        if is_new and fetched.channels.terms.confirm_seconds > 0:
            await self._try(fetched)
            return
        if is_new:
            await self._put_in_force(fetched.channels)
            await self._move(Superseded(sequence=sequence))
        await self._keep(fetched)

    async def _try(self, fetched: HeldBundle) -> None:
        """Put a publication in force that is to be confirmed if it changes what packets meet."""
        channels = fetched.channels
        candidate = channels.terms.candidate
        begun = Begun(
            sequence=channels.sequence,
            confirm_seconds=channels.terms.confirm_seconds,
            candidate_digest=candidate.digest if candidate else "",
        )
        # Saved before the flip: whoever dies in between finds out what the kernel enforces.
        await self._move(begun, is_saved=True)
        try:
            applied = await self._put_in_force(channels)
        except (ApplyError, RejectedBundle):
            await self._move(Failed(sequence=channels.sequence))
            raise
        if not applied.in_force.flipped:
            await self._move(Unchanged(sequence=channels.sequence))
            await self._keep(fetched)
            return
        self.held = fetched
        self._trial_moved.set()

    async def _keep(self, held: HeldBundle) -> None:
        await asyncio.to_thread(self._store.commit)
        self.held = self._confirmed = held

    async def _confirm(self, sequence: int) -> None:
        if await self._move(Confirmed(sequence=sequence)) is not Command.KEEP:
            return
        log.info(FLIP_CONFIRMED, sequence=sequence)
        self._confirmed, self._unfinished = self.held, Command.KEEP
        await self._finish()

    async def _tick(self) -> None:
        if await self._move(Ticked()) is Command.TAKE_BACK:
            self._unfinished = Command.TAKE_BACK
            log.error(
                FLIP_TAKEN_BACK,
                sequence=self.trial.sequence,
                why=f"the reconciler was not seen for {self.trial.confirm_seconds} seconds after it",
            )

    async def _finish(self) -> None:
        """Perform the trial's command; what fails is tried again."""
        try:
            if self._unfinished is Command.KEEP:
                await asyncio.to_thread(self._store.commit)
            elif self._unfinished is Command.TAKE_BACK:
                await self._take_back()
        except (ApplyError, RejectedBundle, OSError) as error:
            log.error(TRIAL_UNFINISHED, command=self._unfinished, error=str(error))
        else:
            self._unfinished = None

    async def _take_back(self) -> None:
        back = self._confirmed
        await self._put_in_force(back.channels if back else None)
        self.held = back
        self._went_back.set()

    async def _reinstate(self, held: HeldBundle) -> None:
        await self._put_in_force(held.channels)

    async def _move(self, event: Event, *, is_saved: bool = False) -> Command | None:
        """Fold an event into the trial and save it, first of all.

        With `is_saved` an OSError ends the change; else it is logged: what follows must happen.
        """
        moved, command = step(self.trial, event, now=self._trial_now())
        if moved == self.trial:
            return command
        try:
            await asyncio.to_thread(self._trial_file.save, moved)
        except OSError as error:
            if is_saved:
                raise
            log.error(TRIAL_NOT_SAVED, stage=moved.stage, error=error.strerror)
        self.trial = moved
        return command

    async def _put_in_force(self, channels: Channels | None) -> Applied:
        try:
            in_force = await self._apply(channels)
        except RejectedBundle:
            raise
        except Exception as error:
            raise ApplyError(f"{type(error).__name__}: {error}") from error
        applied = self.applied = Applied(
            sequence=channels.sequence if channels else 0,
            digest=channels.stable.digest if channels else "",
            in_force=in_force,
            at=self._clock(),
        )
        if channels is not None:
            _log_applied(channels, in_force)
        return applied

    def _is_in_force(self, channels: Channels) -> bool:
        applied = self.applied
        return applied is not None and (applied.sequence, applied.digest) == (
            channels.sequence,
            channels.stable.digest,
        )


def _log_applied(channels: Channels, in_force: InForce) -> None:
    log.info(
        BUNDLE_APPLIED,
        revision=channels.stable.revision,
        sequence=channels.sequence,
        digest=channels.stable.digest,
        units=len(channels.stable.units),
        candidate=channels.candidate.revision if channels.candidate else "",
        role=in_force.role,
    )
