"""Give what is published a number that no agent holds already, where an agent knows more than we do.

In:   what agents say that they hold; the publication in force
Out:  the same content under a higher number
Shell over the publisher. Needed after lost history: a state that was lost, or an API server that was set back
to a backup, gives out numbers again that agents remember with other content, or with higher ones.

Holds always:
1. Nothing but the number changes: the units and their channels are what they were.
2. A node that claims what it likes makes the fleet take a new number at most every REST_SECONDS, and moves
   numbers no further than MOST_AHEAD beyond the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from reconciler.fleet_watch import FleetWatch
from reconciler.publisher import Publisher

log = structlog.get_logger()

RENUMBERED: Final = "publication_renumbered"
NOT_RENUMBERED: Final = "publication_not_renumbered"
REST_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 1.0
MOST_AHEAD: Final = 7 * 86400
"""Numbers begin with the time, in seconds, and grow slower: one so far ahead of it is nobody's."""


class Renumbering:
    """Looks when it is woken."""

    def __init__(
        self, publisher: Publisher, fleet: FleetWatch, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._publisher = publisher
        self._fleet = fleet
        self._clock = clock
        self._woken = asyncio.Event()

    @property
    def held_sequence(self) -> int:
        """The highest number that an agent says it holds, as far as that can be; 0 while none spoke."""
        return min(self._fleet.held_sequence, int(self._clock()) + MOST_AHEAD)

    def look(self) -> None:
        """An agent spoke, or something was published."""
        if self._is_outnumbered():
            self._woken.set()

    async def run(self) -> None:
        """Renumber whenever that is due, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            if not self._is_outnumbered():
                continue
            try:
                self._publisher.renumber(above=self.held_sequence)
            except (TransientError, StalledError) as error:
                log.warning(NOT_RENUMBERED, error=str(error))
                self._woken.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                log.warning(RENUMBERED, sequence=self._publisher.sequence)
                await asyncio.sleep(REST_SECONDS)
                self.look()

    def _is_outnumbered(self) -> bool:
        return self._publisher.sequence > 0 and self._fleet.knows_better(
            self._publisher.sequence, self._publisher.digest
        )
