"""Learn from agents what an earlier leader took back and could tell nobody else.

In:   the signed terms that agents hold; what was remembered elsewhere when this leader began
Out:  what is to be remembered instead
Shell over what agents show. A leader that is cut off from the API server takes revisions back all the same;
the objects still call them enforced when another leads.

Holds always:
1. What was taken back is not brought back by a leader who did not know: whoever holds the withdrawal is
   served only after it counts.
2. Only a withdrawal that is newer than all that the objects tell, and older than what this leader announced,
   changes anything: one that arrives late overrules nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from reconciler.sign import Held, HeldReader
from reconciler.surroundings import Remembered

log = structlog.get_logger()

LEARNT: Final = "withdrawal_learnt"
BEGINS_ANEW: Final = (
    "what was announced here had been taken back by an earlier leader: it begins anew"
)


class Withdrawals:
    """What one leader learns. Only one that began without state of its own has anything to learn."""

    def __init__(
        self, remembered: Remembered, reader: HeldReader, *, first_announced: Callable[[], int]
    ) -> None:
        """`first_announced`: the first number that this leader announced; 0 before."""
        self._reader = reader
        self._first_announced = first_announced
        self._is_overruled = asyncio.Event()
        self.remembered = remembered

    @property
    def is_overruled(self) -> bool:
        """True if what was announced must be begun anew, with what is remembered now."""
        return self._is_overruled.is_set()

    async def until_overruled(self) -> None:
        """Wait until it must."""
        await self._is_overruled.wait()

    def hear(self, data: bytes) -> str:
        """An agent holds this; returns why it cannot be served now, or nothing."""
        if not self.remembered.stable:
            return ""
        word = self._reader.read(data)
        first = self._first_announced()
        if word is None or not word.withdrawn or (first and word.sequence >= first):
            return ""
        learnt = remembering(self.remembered, word)
        if learnt is None:
            return BEGINS_ANEW if self.is_overruled else ""
        log.warning(LEARNT, revision=word.withdrawn, stable=word.stable, sequence=word.sequence)
        self.remembered = learnt
        if not first:
            return ""
        self._is_overruled.set()
        return BEGINS_ANEW


def remembering(known: Remembered, word: Held) -> Remembered | None:
    """What is known with a withdrawal; None if that is no news.

    It names the last revision that was taken back. Whatever else the objects call enforced, or on its way,
    was taken back with it or before it.
    """
    if not known.stable or word.sequence <= known.sequence:
        return None
    way = known.on_its_way
    gone = {word.withdrawn, known.stable, way.revision if way else ""} - {"", word.stable}
    learnt = gone - set(known.taken_back)
    return replace(
        known,
        stable=word.stable,
        taken_back=tuple(sorted((gone | set(known.taken_back)) - {word.stable})),
        on_its_way=None,
        sequence=word.sequence,
        learnt=tuple(sorted({*known.learnt, *learnt} - {word.stable})),
    )
