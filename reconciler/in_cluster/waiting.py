"""What a replica waits for before agents can be served through it, and since when.

In:   what is missing now
Out:  words for the readiness page, a metric, log lines
Shell over the clock and the log.

Holds always:
1. A short wait, as at every start, is not logged; a long one is, once a minute and when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import structlog

log = structlog.get_logger()

WAITS: Final = "replica_waits"
WAITS_NO_MORE: Final = "replica_waits_no_more"
LOOK_SECONDS: Final = 1.0
SHORT_SECONDS: Final = 5.0
TOLD_AGAIN_SECONDS: Final = 60.0


class Needed(StrEnum):
    """What can be missing; the words of the metric."""

    API_SERVER = "api-server"
    LEADER = "leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Something is missing, and why, as far as that is known."""

    of: Needed
    why: str


class Waiting:
    """One replica's wait. `lacks` says what is missing now; None if nothing is."""

    def __init__(
        self, lacks: Callable[[], Lack | None], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._lacks = lacks
        self._clock = clock
        self._since = 0.0
        self._told_at = 0.0

    @property
    def since(self) -> dict[str, float]:
        """What is waited for → since when (seconds since the epoch); empty if for nothing."""
        lack = self._look()
        return {} if lack is None else {str(lack.of): self._since}

    @property
    def words(self) -> str:
        """What is waited for, for a person; empty if for nothing."""
        lack = self._look()
        if lack is None:
            return ""
        since = datetime.fromtimestamp(self._since, UTC)
        return f"waits for the {lack.of} since {since:%Y-%m-%d %H:%M:%S} UTC: {lack.why}"

    async def run(self) -> None:
        """Log until cancelled."""
        while True:
            self.tell()
            await asyncio.sleep(LOOK_SECONDS)

    def tell(self) -> None:
        """Log what is due."""
        since, now, lack = self._since, self._clock(), self._look()
        if lack is None:
            if self._told_at:
                log.info(WAITS_NO_MORE, seconds=round(now - since))
            self._told_at = 0.0
            return
        is_short = now - self._since < SHORT_SECONDS
        if is_short or now - self._told_at < TOLD_AGAIN_SECONDS:
            return
        self._told_at = now
        log.warning(WAITS, waits_for=lack.of, seconds=round(now - self._since), why=lack.why)

    def _look(self) -> Lack | None:
        lack = self._lacks()
        self._since = 0.0 if lack is None else self._since or self._clock()
        return lack
