"""Turn what the kernel's program reports into answers: names for numbers, and who is behind them.

In:   records of the ring buffer; the kernel's own names
Out:  Dropped, Seen
A shell: reads the tree of control groups.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodeagent.trace.containers import CgroupTree, cgroup2_mounts, container_of
from nodeagent.trace.journeys import Journeys
from nodeagent.trace.messages import Dropped, Seen
from nodeagent.trace.records import decode_record, describe
from nodeagent.trace.sightings import (
    Hook,
    RawSighting,
    Sighting,
    decode_sighting,
    process_of,
    states_text,
)
from nodeagent.trace.tracepoint import DropTracepoint

_MOUNTS: Final = Path("/proc/self/mountinfo")


class Teller:
    """Names things; remembers which packets it has met."""

    def __init__(
        self,
        *,
        reasons: DropTracepoint,
        place: Callable[[int], str],
        wall_minus_monotonic_ns: int,
    ) -> None:
        self._reasons = reasons
        self._place = place
        self._wall_minus_monotonic_ns = wall_minus_monotonic_ns
        self._journeys = Journeys()
        self._trees = tuple(map(CgroupTree, cgroup2_mounts(_MOUNTS.read_text())))

    def drop(self, record: bytes) -> Dropped:
        """A record of the program that reports drops."""
        raw = decode_record(record)
        return Dropped(
            describe(
                raw,
                reason=self._reasons.reason_name(raw.reason),
                place=self._place(raw.location),
                wall_minus_monotonic_ns=self._wall_minus_monotonic_ns,
            )
        )

    def sighting(self, record: bytes) -> Seen:
        """A record of the program that follows packets."""
        raw = decode_sighting(record)
        cgroup = self._cgroup(raw)
        seen = describe(
            raw.seen,
            reason=self._reason(raw),
            place=self._place(raw.seen.location) if raw.hook is Hook.DROPPED else "",
            wall_minus_monotonic_ns=self._wall_minus_monotonic_ns,
        )
        return Seen(
            Sighting(
                hook=raw.hook.name.lower(),
                seen=seen,
                since_ns=self._journeys.since_last(raw),
                process=process_of(raw, cgroup, container_of(cgroup)),
            )
        )

    def _reason(self, raw: RawSighting) -> str:
        if raw.hook is Hook.DROPPED:
            return self._reasons.reason_name(raw.seen.reason)
        return states_text(raw.seen.reason) if raw.hook is Hook.STATE else ""

    def _cgroup(self, raw: RawSighting) -> str:
        paths = (tree.path_of(raw.cgroup) for tree in self._trees if raw.cgroup)
        return next((path for path in paths if path), "")
