"""The two other processes of the flows benchmark: the agent's way of a flow, and a subscriber.

In:   the datapath's pins, a socket, shared counters
Out:  flows served; flows counted
Shell. The agent here is the pump and the socket alone: no planner, no reconciler.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from benchmarks.report import percentile
from nodeagent.datapath import Datapath, DatapathConfig
from nodeagent.enforcer import Enforcer
from nodeagent.flow_pump import FlowPump
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.ring import FlowRing, Lost
from nodeagent.local_api import serve
from nodeagent.local_api_client import AgentUnreachable, open_agent

_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SAMPLES: Final = 400
"""Batches: fewer than come while flows are sent steadily, so that none from before counts."""
_FIRST: Final = 1_000
"""Flows before these wait for the subscriber to begin, not for the agent."""
PROBE_PORT: Final = 1_000
"""Source port of flows that only tell when the subscriber hears any; they may arrive at any time."""
Sender = Callable[[Datapath], int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the subscriber has counted so far."""

    delivered: Synchronized[int]
    lost: Synchronized[int]
    latency_ms: Synchronized[float]
    probes: Synchronized[int]

    @classmethod
    def shared(cls, spawn: SpawnContext) -> Seen:
        """Counters that two processes see."""
        return cls(
            spawn.Value("q", 0), spawn.Value("q", 0), spawn.Value("d", 0.0), spawn.Value("q", 0)
        )

    @property
    def total(self) -> int:
        """All that is accounted for."""
        return self.delivered.value + self.lost.value


def serve_flows(config: DatapathConfig, socket: Path) -> None:
    """Be the agent, until terminated."""
    asyncio.run(_serve(config, socket))


async def _serve(config: DatapathConfig, socket: Path) -> None:
    datapath, ring = Datapath.open(config), FlowRing()
    FlowPump(datapath, Enforcer(datapath), ring, "bench").start()
    # Of all its parts the service needs the ring only to answer for flows.
    parts: Any = SimpleNamespace(ring=ring)
    await (await serve(parts, socket)).wait_for_termination()


def subscribe(socket: Path, seen: Seen) -> None:
    """Follow every flow, until terminated."""
    while not socket.exists():
        time.sleep(0.05)
    latencies: deque[float] = deque(maxlen=_SAMPLES)
    with open_agent(socket) as agent:
        try:
            for item in agent.flow_batches(FlowFilter(), last=0, follow=True):
                if isinstance(item, Lost):
                    seen.lost.value += item.count
                    continue
                if seen.delivered.value > _FIRST:
                    latencies.append((time.time_ns() - item.rows.time_ns[0]) / 1e6)
                    seen.latency_ms.value = percentile(latencies, 99)
                # All were sent before any other flow, and nothing overtakes.
                is_early = not seen.delivered.value
                probes = list(item.rows.source_port).count(PROBE_PORT) if is_early else 0
                seen.probes.value += probes
                seen.delivered.value += len(item) - probes
        except AgentUnreachable:
            return


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
