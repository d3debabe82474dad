"""How often a webhook may have the branch looked at.

In:   when somebody asks (`now`)
Out:  how many seconds to wait before looking; None if a look is due already
Pure.

Holds always:
1. Between two looks are at least LEAST_SECONDS, however many ask: an old request sent again and again
   costs no more than that.
2. Whoever asks is followed by a look: a push that came just after one is not forgotten.
"""

from __future__ import annotations

from typing import Final

LEAST_SECONDS: Final = 5.0


class Pace:
    """The looks that were promised."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def ask(self, now: float) -> float | None:
        """Seconds until the look that this asks for; None: one that was promised before will do."""
        if self._last > now:
            return None
        self._last = max(now, self._last + LEAST_SECONDS)
        return self._last - now
