"""See to it that every target is told of every step, once it can be.

In:   the history in the state database; Targets; "something moved"
Out:  requests
Shell over tasks and threads of its own. What is told is `tell`'s part, sending it `send`'s.

Holds always:
1. The history is the queue: nothing is kept in memory, a restart loses nothing, and what is waiting is
   bounded as the history is.
2. A target that is slow, away or lost holds up neither a rollout nor another target.
3. A step is told until it is taken, refused for good, or failed ATTEMPTS times; then the next one is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Protocol

import structlog

from netpolicy.errors import StalledError, TransientError
from reconciler.notify.send import read_secret, send
from reconciler.notify.target import MAX_TARGETS, Target
from reconciler.notify.tell import Step, next_step, post_of

log = structlog.get_logger()

TOLD: Final = "notification_sent"
FAILED: Final = "notification_failed"
GIVEN_UP: Final = "notification_given_up"

ATTEMPTS: Final = 12
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 300.0


class History(Protocol):
    """What happened, and up to where each target was told."""

    def steps_after(self, number: int) -> Sequence[Step]:
        """The lines behind that one, the oldest first."""

    def last_step(self) -> int:
        """The number of the newest line; 0 if there is none."""

    def told(self, target: str) -> int | None:
        """The number of the last line that a target was told; None for one that is new."""

    def save_told(self, target: str, number: int) -> None:
        """Store it; raises TransientError if it could not be stored."""


class Notifier:
    """Tells the targets of one reconciler."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._wanted: tuple[Target, ...] = ()
        self._moved: dict[Target, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(MAX_TARGETS, thread_name_prefix="notify")

    def want(self, targets: tuple[Target, ...]) -> None:
        """Tell these from now on."""
        if targets != self._wanted:
            self._wanted = targets
            self._changed.set()

    def wake(self) -> None:
        """Something may have moved."""
        for moved in self._moved.values():
            moved.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        tasks: dict[Target, asyncio.Task[None]] = {}
        try:
            while True:
                self._changed.clear()
                for gone in tasks.keys() - set(self._wanted):
                    tasks.pop(gone).cancel()
                    del self._moved[gone]
                for target in self._wanted:
                    if target not in tasks:
                        self._moved[target] = asyncio.Event()
                        tasks[target] = asyncio.create_task(self._serve(target))
                await self._changed.wait()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, target: Target) -> None:
        failures = 0
        moved = self._moved[target]
        while True:
            moved.clear()
            try:
                step = self._due(target)
                if step is None:
                    await moved.wait()
                    continue
                is_over = await self._tell(target, step)
                failures = 0 if is_over else failures + 1
                if failures >= ATTEMPTS:
                    log.error(GIVEN_UP, target=target.shown, revision=step[1].revision)
                if is_over or failures >= ATTEMPTS:
                    failures = 0
                    self._history.save_told(target.key, step[0])
            except TransientError as error:  # the state database
                log.error(FAILED, target=target.shown, error=str(error))
                failures += 1
            if failures:
                await asyncio.sleep(_pause(failures))

    def _due(self, target: Target) -> Step | None:
        """The step to tell next. A new target is not told what was before it."""
        told = self._history.told(target.key)
        if told is None:
            told = self._history.last_step()
            self._history.save_told(target.key, told)
        return next_step(self._history.steps_after(told), target.kind)

    async def _tell(self, target: Target, step: Step) -> bool:
        """Tell of a step; False if that is worth another attempt."""
        loop = asyncio.get_running_loop()
        try:
            post = post_of(target, step, read_secret(target))
            await loop.run_in_executor(self._threads, partial(send, target, post))
        except TransientError as error:
            log.warning(FAILED, target=target.shown, error=str(error))
            return False
        except StalledError as error:
            log.error(GIVEN_UP, target=target.shown, error=str(error))
            return True
        log.info(TOLD, target=target.shown, revision=step[1].revision, phase=step[1].phase)
        return True


def _pause(failures: int) -> float:
    """Full jitter up to a growing bound; seconds."""
    bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**failures)
    return random.uniform(FIRST_PAUSE_SECONDS / 2, bound)  # noqa: S311  not a secret
