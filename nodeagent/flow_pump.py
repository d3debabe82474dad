"""Carry events from the kernel's ring to the flow ring.

In:   the datapath's event reader, its count of lost events
Out:  batches in a FlowRing, by the names of the moment
Shell over the event reader and the clock; one event loop.

Holds always:
1. The first event after a quiet time is read at once, every other one within `PAUSE_SECONDS`, so that the
   agent is woken no more often than that however many come.
2. What the kernel could not tell since the pump started is reported to the ring, exactly.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from nodeagent.datapath import Datapath
from nodeagent.datapath.event_ring import RECORD_BYTES
from nodeagent.datapath.events import READ_LIMIT
from nodeagent.enforcer import Enforcer
from nodeagent.flows.batch import Arrival, FlowBatch
from nodeagent.flows.naming import Names
from nodeagent.flows.ring import FlowRing
from nodeagent.plan.node_plan import NodePlan

PAUSE_SECONDS: Final = 0.01
SWEEP_SECONDS: Final = 1.0


class FlowPump:
    """Reads whenever the kernel has something."""

    def __init__(self, datapath: Datapath, enforcer: Enforcer, ring: FlowRing, node: str) -> None:
        self._datapath = datapath
        self._events = datapath.events()
        self._enforcer = enforcer
        self._ring = ring
        self._names = Names(node=node)
        self._named_plan: NodePlan | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._next_sweep: asyncio.TimerHandle | None = None
        self._lost = 0

    def start(self) -> None:
        """Read from now on, first what has gathered."""
        self._lost = self._datapath.lost_events()
        self._read()
        self._sweep()

    def stop(self) -> None:
        """Read no more, and give the reader back."""
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        for timer in (self._pause, self._next_sweep):
            if timer is not None:
                timer.cancel()
        self._events.close()

    def _wake(self) -> None:
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._read()

    def _read(self) -> None:
        """Take what is there. While anything comes look again after a pause; else wait to be woken."""
        loop = asyncio.get_running_loop()
        if taken := self._take():
            pause = 0 if taken == READ_LIMIT else PAUSE_SECONDS
            self._pause = loop.call_later(pause, self._read)
        else:
            self._pause = None
            loop.add_reader(self._events.fileno(), self._wake)

    def _sweep(self) -> None:
        """Have the kernel tell how many packets it refused of flows that ask no more."""
        self._datapath.tell_refusals()
        loop = asyncio.get_running_loop()
        self._next_sweep = loop.call_later(SWEEP_SECONDS, self._sweep)

    def _take(self) -> int:
        """Record the events that are there, then those lost for want of room; how many there were."""
        count = self.tell(self._events.read_records())
        lost = self._datapath.lost_events()
        if lost > self._lost:
            self._ring.lose(lost - self._lost)
            self._lost = lost
        return count

    def tell(self, records: bytes) -> int:
        """Record events, by the names of the moment; how many they are."""
        count = len(records) // RECORD_BYTES
        if count:
            arrival = Arrival(
                records=records,
                decode=self._events.columns,
                names=self._current_names(),
                # The kernel stamps events by the monotonic clock; Unix time may have been set since.
                boot_time_ns=time.time_ns() - time.monotonic_ns(),
            )
            self._ring.add(FlowBatch(arrival, count))
        return count

    def _current_names(self) -> Names:
        installed, meanings = self._enforcer.installed, self._enforcer.meanings
        plan = installed.plan if installed else None
        if plan is not self._named_plan or meanings is not self._names.meanings:
            self._named_plan = plan
            self._names = Names(
                node=self._names.node,
                owners=plan.owners if plan else {},
                identities=plan.identities if plan else {},
                meanings=meanings,
            )
        return self._names
