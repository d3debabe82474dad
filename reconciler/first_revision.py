"""Before anything is published here: is the newest commit the first revision that nodes ever get?

In:   the signed terms that agents show when they connect
Out:  what they enforce, to be brought back; or nothing, if they enforce nothing
Shell over what agents show.

The first revision ever is compared with nothing and held back by nothing. A reconciler that lost its state
would take for it whatever the branch holds, and so would one whose repository object was made anew.

Holds always:
1. Only what our keys signed counts, and of that the highest number: a node can show an older publication
   than others, and no other that was never published.
2. Once something is published here nothing is learnt: a node that comes back after a year overrules nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from netpolicy.errors import StalledError
from netpolicy.status import Reason
from reconciler.sign import Held, HeldReader
from reconciler.surroundings import NOTHING_REMEMBERED, Remembered

log = structlog.get_logger()


class FirstRevision:
    """What one start without state learns from agents."""

    def __init__(
        self,
        reader: HeldReader,
        *,
        is_asking: Callable[[], bool],
        all_spoke: Callable[[], bool],
    ) -> None:
        """`is_asking`: true while nothing is known of what is enforced, from anywhere; `all_spoke`: once
        every node's agent spoke in this run."""
        self._reader = reader
        self._is_asking = is_asking
        self._all_spoke = all_spoke
        self._changed = asyncio.Event()
        self.remembered = NOTHING_REMEMBERED
        """What agents enforce, as far as they showed it."""

    def hear(self, data: bytes) -> None:
        """An agent holds this."""
        if not data or not self._is_asking():
            return
        held = self._reader.read(data)
        if held is not None and held.sequence > self.remembered.sequence:
            self.remembered = enforced_by(held)
            log.info("revision_learnt", revision=held.stable, sequence=held.sequence)

    def look(self) -> None:
        """An agent spoke, or the nodes are others."""
        self._changed.set()

    async def ask(self, *, seconds: float, begins: Callable[[], None]) -> None:
        """Wait for the last agent to speak, and for nobody longer than this; not at all if there is nothing
        to ask. `begins` is called before a wait."""
        if not self._is_asking() or self._all_spoke():
            return
        log.info("agents_asked", patience_seconds=seconds)
        begins()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._all_spoke():
                    self._changed.clear()
                    await self._changed.wait()
        log.info("agents_answered", all_spoke=self._all_spoke(), enforced=self.remembered.stable)


def enforced_by(held: Held) -> Remembered:
    """What is known if agents hold this. Where they held a candidate, too, it begins anew."""
    taken_back = (held.withdrawn,) if held.withdrawn else ()
    return Remembered(
        stable=held.stable, taken_back=taken_back, sequence=held.sequence, learnt=taken_back
    )


def unknown(sequence: int, commit: str) -> StalledError:
    """Agents hold something, and none of them shows what our keys signed of it."""
    return StalledError(
        f"agents hold publication {sequence}, and none shows which revision that is, so that {commit} can be"
        f" compared with nothing. To enforce it at once everywhere: tidegate acknowledge {commit}",
        reason=Reason.HISTORY_DIVERGED,
    )
