"""A duration as people write it: `30s`, `10m`, `1h`, `7d`.

In:   a field of a settings file
Out:  seconds; a fault beside those already found
Pure.
"""

from __future__ import annotations

import re
from typing import Final

from netpolicy.fields import BAD_VALUE, Fields

MAX_SECONDS: Final = 366 * 86400
UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_DURATION: Final = re.compile(r"(\d{1,9})([smhd])")


def read_seconds(fields: Fields, key: str, default: str, *, most: int = MAX_SECONDS) -> int:
    """The duration under a key, in seconds; the default's if there is none, or it is faulty."""
    text = fields.text(key, default)
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * UNIT_SECONDS[match[2]] if match else -1
    if 0 <= seconds <= most:
        return seconds
    fields.fault(
        (key,), BAD_VALUE, f"{key} must be a duration such as 30s, 10m or 1h, up to {most} seconds"
    )
    return int(default[:-1]) * UNIT_SECONDS[default[-1]]
