"""Carry events from the kernel's ring buffer to the flow ring.

In:   the datapath's event reader
Out:  FlowRecords in a FlowRing
Shell over the event reader and the clock; one event loop.
"""

from __future__ import annotations

import asyncio
import time

from nodeagent.datapath import Datapath
from nodeagent.enforcer import Enforcer
from nodeagent.flows.records import NodeNames, flow_record
from nodeagent.flows.ring import FlowRing
from nodeagent.plan.node_plan import NodePlan


class FlowPump:
    """Reads whenever the kernel has something."""

    def __init__(self, datapath: Datapath, enforcer: Enforcer, ring: FlowRing, node: str) -> None:
        self._events = datapath.events()
        self._enforcer = enforcer
        self._ring = ring
        self._names = NodeNames(node=node)
        self._named_plan: NodePlan | None = None

    def start(self) -> None:
        """Read from now on, first what has gathered."""
        asyncio.get_running_loop().add_reader(self._events.fileno(), self.read)
        self.read()

    def stop(self) -> None:
        """Read no more, and give the reader back."""
        asyncio.get_running_loop().remove_reader(self._events.fileno())
        self._events.close()

    def read(self) -> None:
        """Record every event that is there."""
        names = self._current_names()
        # The kernel stamps events by the monotonic clock; Unix time may have been set since.
        boot_time_ns = time.time_ns() - time.monotonic_ns()
        for event in self._events.read():
            self._ring.add(
                flow_record(
                    event,
                    names=names,
                    meaning=self._enforcer.meaning(event.revision),
                    boot_time_ns=boot_time_ns,
                )
            )

    def _current_names(self) -> NodeNames:
        installed = self._enforcer.installed
        if installed is not None and installed.plan is not self._named_plan:
            self._named_plan = installed.plan
            self._names = NodeNames(
                node=self._names.node,
                owners=installed.plan.owners,
                identities=installed.plan.identities,
            )
        return self._names
