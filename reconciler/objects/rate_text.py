"""The time over which requests are counted, as authors write it: `1s`, `10m`, `1h`.

In:   text
Out:  seconds
Pure.
"""

from __future__ import annotations

import re
from typing import Final

_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_SPAN: Final = re.compile(r"([0-9]{1,6})([smh])")


def span_seconds(text: str) -> int | None:
    """The seconds; None if it is no such text."""
    found = _SPAN.fullmatch(text)
    return int(found[1]) * _UNIT_SECONDS[found[2]] if found else None
