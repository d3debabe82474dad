"""When a rollout may move: windows of the week, in a place's own time.

In:   Window values, `now`
Out:  is a moment inside one of them; when one opens next
Pure. Time zones are data (zoneinfo).

Holds always:
1. No windows: every moment is inside. A window of no day contains none.
2. A window that ends before it begins runs past midnight, and belongs to the day it begins on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_A_DAY: Final = 24 * 60
DAYS_A_WEEK: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Minutes of the day, `start` included and `end` not, on these days (0: Monday)."""

    days: tuple[int, ...] = tuple(range(7))
    start: int = 0
    end: int = MINUTES_A_DAY
    timezone: str = "UTC"

    def openings(self, now: float) -> Iterator[float]:
        """When it opens within a week of the moment, in its place's own time."""
        zone = ZoneInfo(self.timezone)
        today = datetime.fromtimestamp(now, zone).date()
        for date in (today + timedelta(days=ahead) for ahead in range(DAYS_A_WEEK + 1)):
            if date.weekday() in self.days:
                hour, minute = divmod(self.start, 60)
                yield datetime.combine(date, time(hour, minute), zone).timestamp()

    def contains(self, now: float) -> bool:
        """True if the moment (seconds since the epoch) is inside."""
        local = datetime.fromtimestamp(now, ZoneInfo(self.timezone))
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        yesterday = (local.date() - timedelta(days=1)).weekday()
        return (today in self.days and minute >= self.start) or (
            yesterday in self.days and minute < self.end
        )


def is_open(windows: Iterable[Window], now: float) -> bool:
    """True if there are no windows, or one of them contains the moment."""
    given = tuple(windows)
    return not given or any(window.contains(now) for window in given)


def next_opening(windows: Iterable[Window], now: float) -> float | None:
    """When a window opens next; None if the moment is inside one, or none opens within a week."""
    given = tuple(windows)
    if is_open(given, now):
        return None
    ahead = (at for window in given for at in window.openings(now) if at > now)
    return min(ahead, default=None)
