"""How long a packet took from one place to the next.

In:   sightings, in the order of their times
Out:  for each, the time since the same packet was seen before
Pure: what it remembers is bounded.

Holds always:
1. A packet is told by its address in the kernel and by its flow: that memory which is used again for
   another flow is not taken for the same packet, nor what a socket hands out afresh.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from nodeagent.trace.sightings import Hook, RawSighting

MAX_PACKETS: Final = 4096
LONGEST_NS: Final = 1_000_000_000
"""An address that was not seen for a second is another packet."""

_Flow: TypeAlias = tuple[str, int, str, int, int]


@dataclass(frozen=True, slots=True)
class _Last:
    at_ns: int
    flow: _Flow


class Journeys:
    """The packets that are on their way."""

    def __init__(self) -> None:
        self._last: OrderedDict[int, _Last] = OrderedDict()

    def since_last(self, sighting: RawSighting) -> int | None:
        """Nanoseconds since this packet was seen before; None if it was not, or is no packet."""
        seen = sighting.seen
        if not sighting.packet:
            return None
        flow = (
            seen.source, seen.source_port, seen.destination, seen.destination_port, seen.protocol,
        )  # fmt: skip
        before = self._last.pop(sighting.packet, None)
        if sighting.hook is not Hook.DROPPED:
            self._last[sighting.packet] = _Last(seen.at_ns, flow)
            if len(self._last) > MAX_PACKETS:
                self._last.popitem(last=False)
        if before is None or before.flow != flow or _starts(sighting):
            return None
        passed = seen.at_ns - before.at_ns
        return passed if 0 <= passed <= LONGEST_NS else None


def _starts(sighting: RawSighting) -> bool:
    """A packet that still belongs to its socket has only just been made."""
    return sighting.hook is Hook.QUEUED and sighting.socket != 0
