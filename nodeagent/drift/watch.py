"""Compare the kernel with what was put there every few seconds, and put back what differs.

In:   the datapath, what the enforcer and the placement put there
Out:  repairs, log events, DriftStatus
Shell. The comparison runs in a thread, beside planning; a repair waits for its turn, and looks again first.

Holds always:
1. A repair never opens: programs come back first, then who is who, then the policy, as one generation.
2. What is found while a plan is being carried out, and gone when it is done, was no drift.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final

import structlog

from nodeagent.datapath import Datapath, DatapathError
from nodeagent.drift.compare import Drift, DriftKind, compare
from nodeagent.drift.intended import IntendedState, Noted
from nodeagent.drift.status import DriftStatus
from nodeagent.enforcer import Enforcer
from nodeagent.placement import Placement
from nodeagent.planner import Planner

log = structlog.get_logger()

CHECK_SECONDS: Final = 3.0
"""Between comparisons: with their own time, what differs is found within five seconds."""
GLANCE_SECONDS: Final = 0.5
"""Between looks at the programs at tcx: where one is missing anything passes, and no notification tells."""
_PROGRAM_KINDS: Final = (DriftKind.PROGRAM, DriftKind.FOREIGN_FILTER, DriftKind.FOREIGN_PROGRAM)
LOGGED_AT_ONCE: Final = 20
DRIFT_FOUND: Final = "drift_found"
DRIFT_REPAIRED: Final = "drift_repaired"
DRIFT_NOT_REPAIRED: Final = "drift_not_repaired"
DRIFT_UNREADABLE: Final = "drift_unreadable"


class DriftWatch:
    """Finds and repairs; `status` tells of it."""

    def __init__(
        self,
        datapath: Datapath,
        enforcer: Enforcer,
        placement: Placement,
        planner: Planner,
        mended: Mapping[DriftKind, Callable[[], int]],
    ) -> None:
        """`mended`: what others compare and put back by themselves, and how often they had to."""
        self._datapath = datapath
        self._enforcer = enforcer
        self._placement = placement
        self._planner = planner
        self._intended = IntendedState(datapath, enforcer, placement)
        self._mended: Mapping[DriftKind, Callable[[], int]] = {
            DriftKind.PROGRAM: lambda: placement.reattached,
            **mended,
        }
        self._mended_before = dict.fromkeys(self._mended, 0)
        self.status = DriftStatus()

    async def run(self) -> None:
        """Compare for ever, from the first plan on: before it, nobody knows what should be held."""
        await self._planner.first_plan.wait()
        while True:
            try:
                await self.check()
                await until_disarmed(lambda: self._datapath.disarmed(self._placement.attached))
            except DatapathError as error:
                log.error(DRIFT_UNREADABLE, error=str(error))
                await asyncio.sleep(CHECK_SECONDS)

    async def check(self) -> None:
        """Compare once, and repair what differs."""
        started = time.monotonic()
        drifts = await self._differences()
        self.status = self.status.checked(now=time.time(), seconds=time.monotonic() - started)
        self._note_mended()
        if not drifts:
            self._note_gone()
            return
        async with self._planner.paused():
            found = await self._differences()
            self._note_found(found)
            await self._repair(found)
            left = await self._differences()
        self._note_left(found, left)

    async def _differences(self) -> tuple[Drift, ...]:
        # What is intended is noted first and here: the thread reads while plans may change it.
        noted = self._intended.note()
        return await asyncio.to_thread(self._compare, noted)

    def _compare(self, noted: Noted) -> tuple[Drift, ...]:
        held = self._datapath.holdings(noted.attached)
        return compare(self._intended.complete(noted, held), held)

    async def _repair(self, drifts: Iterable[Drift]) -> None:
        of_kind: dict[DriftKind, set[int]] = {}
        for drift in drifts:
            of_kind.setdefault(drift.kind, set()).add(drift.number)
        try:
            self._placement.restore_programs(
                set().union(*(of_kind.get(kind, set()) for kind in _PROGRAM_KINDS))
            )
            if DriftKind.ADDRESSES in of_kind:
                await self._enforcer.restore_addresses()
            self._placement.restore_endpoints(of_kind.get(DriftKind.ENDPOINTS, set()))
            if DriftKind.LOCAL_ENDS in of_kind:
                self._placement.restore_local_ends()
            await self._restore_policy(of_kind)
            if DriftKind.PIN in of_kind:
                await asyncio.to_thread(self._datapath.restore_pins)
        except DatapathError as error:
            log.error(DRIFT_NOT_REPAIRED, error=str(error))

    async def _restore_policy(self, of_kind: dict[DriftKind, set[int]]) -> None:
        damaged = of_kind.get(DriftKind.GENERATION, set())
        if self._datapath.intended_control.active in damaged:
            await self._enforcer.restore_generation()
        elif DriftKind.CONTROL in of_kind:
            self._enforcer.restore_control()
        if damaged:
            # The planner fills the shadows among them anew.
            self._enforcer.drop_slots(damaged)
            self._planner.retry_now()

    def _note_mended(self) -> None:
        """What others have put back already, as programs that the kernel reported as taken off: it counts
        as found and repaired."""
        now = time.time()
        for kind, times_mended in self._mended.items():
            times = times_mended()
            before, self._mended_before[kind] = self._mended_before[kind], times
            back = [Drift(kind=kind, where="", what="mended at once")] * (times - before)
            self.status = self.status.with_found(back, now=now).with_repaired(back, now=now)

    def _note_found(self, drifts: tuple[Drift, ...]) -> None:
        new = [drift for drift in drifts if drift not in self.status.standing]
        self.status = self.status.with_found(new, now=time.time())
        for drift in new[:LOGGED_AT_ONCE]:
            log.error(DRIFT_FOUND, kind=drift.kind, where=drift.where, what=drift.what)
        if len(new) > LOGGED_AT_ONCE:
            log.error(DRIFT_FOUND, more=len(new) - LOGGED_AT_ONCE)

    def _note_left(self, found: tuple[Drift, ...], left: tuple[Drift, ...]) -> None:
        gone = [drift for drift in found if drift not in left]
        self.status = self.status.with_repaired(gone, now=time.time()).with_standing(left)
        if gone:
            log.warning(DRIFT_REPAIRED, repaired=len(gone), standing=len(left))

    def _note_gone(self) -> None:
        """Nothing differs; what stood, somebody else has taken away."""
        gone = self.status.standing
        self.status = self.status.with_repaired(gone, now=time.time()).with_standing(())


async def until_disarmed(
    glance: Callable[[], Set[int]],
    *,
    every: float = GLANCE_SECONDS,
    at_most: float = CHECK_SECONDS,
) -> None:
    """Wait for the next comparison: as long as a glance shows nothing that the one before did not.

    What the last comparison could not put back is looked into again when it is due, not all the time.
    """
    due = time.monotonic() + at_most
    seen = glance()
    while time.monotonic() < due:
        await asyncio.sleep(every)
        now = glance()
        if now - seen:
            return
        seen = now
