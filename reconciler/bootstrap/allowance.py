"""How often each may ask: a bucket for everyone, refilled as time goes by.

In:   who asks, and when
Out:  whether that is too often
Pure but for what it remembers. As many askers as `most` are remembered, the latest ones.
"""

from __future__ import annotations

from collections import OrderedDict


class Allowance:
    """So many at once, and so many a second after that, for each asker."""

    def __init__(self, *, burst: float, per_second: float, most: int = 10_000) -> None:
        self._burst = burst
        self._per_second = per_second
        self._most = most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, asker: str, *, now: float) -> bool:
        """True if the asker may; that counts."""
        left, at = self._left.pop(asker, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second)
        may = left >= 1
        self._left[asker] = (left - may, now)
        while len(self._left) > self._most:
            self._left.popitem(last=False)
        return may
