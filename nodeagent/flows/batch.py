"""The flows of one read: packed until somebody asks for them, and from then on named.

In:   packed records, how to decode them, and what was known when they arrived
Out:  FlowColumns, by the names of that moment
One event loop only.

Holds always:
1. Names are those of the arrival, however late the question.
2. A settled batch keeps nothing alive but its own flows: neither records nor the node's names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nodeagent.flows.columns import FlowColumns
from nodeagent.flows.naming import KernelEvents, Names, name_flows


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a read brought, and what was known then."""

    records: bytes
    decode: Callable[[bytes], KernelEvents]
    names: Names
    boot_time_ns: int


class FlowBatch:
    """So many flows, oldest first."""

    __slots__ = ("_arrival", "_columns", "_count")

    def __init__(
        self, arrival: Arrival | None, count: int, columns: FlowColumns | None = None
    ) -> None:
        self._arrival = arrival
        self._columns = columns
        self._count = count

    @classmethod
    def of(cls, columns: FlowColumns) -> FlowBatch:
        """Flows that have their names."""
        return cls(None, len(columns), columns)

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> Names | None:
        """The names that it still waits to be given; None once it has them."""
        return self._arrival.names if self._arrival else None

    def columns(self) -> FlowColumns:
        """The flows, named."""
        if self._columns is None:
            self._columns = self._named()
            self._arrival = None
        return self._columns

    def _named(self) -> FlowColumns:
        arrival = self._arrival
        assert arrival is not None  # it goes only when there are columns
        events = arrival.decode(arrival.records)
        return name_flows(events, arrival.names, boot_time_ns=arrival.boot_time_ns)
