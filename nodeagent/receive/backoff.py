"""How long to wait before the next try: full jitter, so that a fleet does not come back as one."""

from __future__ import annotations

import random

from nodeagent.receive.config import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS


class Backoff:
    """A bound that doubles with each failure, and a random wait below it."""

    def __init__(self) -> None:
        self._bound = FIRST_RETRY_SECONDS

    def succeed(self) -> None:
        """Begin again from the shortest bound."""
        self._bound = FIRST_RETRY_SECONDS

    def fail(self) -> float:
        """Seconds to wait now; the next bound is twice as high."""
        seconds = random.uniform(0.0, self._bound)  # noqa: S311  spreads load, hides nothing
        self._bound = min(LONGEST_RETRY_SECONDS, self._bound * 2)
        return seconds
