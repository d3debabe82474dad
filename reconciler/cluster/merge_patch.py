"""The least that must be written so that an object says what it should.

In:   what it says, what it should say
Out:  a JSON merge patch (RFC 7386), empty if nothing must be written
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_patch(said: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What turns one into the other; what is not wanted any more becomes null."""
    patch: dict[str, Any] = {key: None for key in said if key not in wanted}
    for key, value in wanted.items():
        before = said.get(key)
        if key in said and before == value:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            patch[key] = merge_patch(before, value)
        else:
            patch[key] = value
    return patch
