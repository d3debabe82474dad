"""Read what a tracepoint hands to its programs, and the names of its reasons.

In:   the text of events/skb/kfree_skb/format in tracefs
Out:  DropTracepoint
Pure. Reason numbers differ between kernels: only this kernel's own list names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_FIELD: Final = re.compile(r"field:[^;]*?(\w+)(?:\[\d+\])?;\s*offset:(\d+);\s*size:(\d+);")
_REASONS: Final = re.compile(r"__print_symbolic\(REC->reason,(.*)\)", re.DOTALL)
_REASON: Final = re.compile(r'\{\s*(0x[0-9a-fA-F]+|\d+)\s*,\s*"([^"]*)"\s*\}')

_SUBSYSTEM_SHIFT: Final = 16


class TracepointError(Exception):
    """This kernel's tracepoint lacks something that tracing needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTracepoint:
    """Offsets of the tracepoint's fields in bytes, and reason number → name."""

    packet_offset: int
    place_offset: int
    reason_offset: int
    reasons: Mapping[int, str]

    def reason_name(self, number: int) -> str:
        """The kernel's name; a subsystem's own reason is `SUBSYSTEM_2_5`, an unlisted one a number."""
        if name := self.reasons.get(number):
            return name
        subsystem, own = divmod(number, 1 << _SUBSYSTEM_SHIFT)
        return f"SUBSYSTEM_{subsystem}_{own}" if subsystem else f"REASON_{number}"


def field_offsets(text: str) -> dict[str, int]:
    """Field name → offset in bytes, of any event's format file."""
    return {name: int(offset) for name, offset, _size in _FIELD.findall(text)}


def decode_format(text: str) -> DropTracepoint:
    """Read the format file of skb:kfree_skb; raises TracepointError for kernels before 5.17."""
    offsets = field_offsets(text)
    absent = [name for name in ("skbaddr", "location", "reason") if name not in offsets]
    if absent:
        raise TracepointError(f"skb:kfree_skb of this kernel has no {', '.join(absent)}")
    listed = _REASONS.search(text)
    return DropTracepoint(
        packet_offset=offsets["skbaddr"],
        place_offset=offsets["location"],
        reason_offset=offsets["reason"],
        reasons={int(n, 0): name for n, name in _REASON.findall(listed[1] if listed else "")},
    )
