"""Name the process behind each denied flow.

In:   denied flows of the agent, processes as the trace meets them; `now` in seconds
Out:  Denied: the flow with its process, or without one after a moment's patience
Pure. Flows and processes come by different ways, either first.

Holds always:
1. Every flow comes out once, in the end; what is remembered is bounded.
2. A process is named for the very flow it opened: equal addresses, ports and protocol.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from netpolicy.flow import FlowRecord
from netpolicy.rules import WITH_PORTS, Protocol
from nodeagent.trace.sightings import Process, Sighting

PATIENCE_SECONDS: Final = 1.0
MAX_PROCESSES: Final = 16_384
MAX_WAITING: Final = 4_096

_WORDS: Final = {protocol.word: int(protocol) for protocol in Protocol}
_Key: TypeAlias = tuple[str, int, str, int, int]


@dataclass(frozen=True, slots=True)
class Denied:
    """A denied flow, and who opened it if that was seen."""

    flow: FlowRecord
    process: Process | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    flow: FlowRecord
    until: float


class DeniedFlows:
    """The flows that wait for a process, and the processes that were met."""

    def __init__(self) -> None:
        self._processes: OrderedDict[_Key, Process] = OrderedDict()
        self._waiting: deque[_Waiting] = deque()

    def take_process(self, sighting: Sighting) -> list[Denied]:
        """Note who opens a flow; return the flows that waited for it."""
        seen, process = sighting.seen, sighting.process
        if process is None or seen.protocol not in _WORDS:
            return []
        key = _key(
            seen.source, seen.source_port, seen.destination, seen.destination_port,
            _WORDS[seen.protocol],
        )  # fmt: skip
        self._processes.pop(key, None)
        self._processes[key] = process
        if len(self._processes) > MAX_PROCESSES:
            self._processes.popitem(last=False)
        found = [waiting for waiting in self._waiting if _key_of(waiting.flow) == key]
        for waiting in found:
            self._waiting.remove(waiting)
        return [Denied(waiting.flow, process) for waiting in found]

    def take_flow(self, flow: FlowRecord, *, now: float) -> list[Denied]:
        """The flow if its process is known; else it waits. One too many is let go without."""
        process = self._processes.get(_key_of(flow))
        if process is not None:
            return [Denied(flow, process)]
        self._waiting.append(_Waiting(flow, now + PATIENCE_SECONDS))
        if len(self._waiting) > MAX_WAITING:
            return [Denied(self._waiting.popleft().flow, None)]
        return []

    def expire(self, *, now: float) -> list[Denied]:
        """The flows that have waited long enough."""
        gone = []
        while self._waiting and self._waiting[0].until <= now:
            gone.append(Denied(self._waiting.popleft().flow, None))
        return gone


def _key_of(flow: FlowRecord) -> _Key:
    source, destination = flow.source, flow.destination
    return _key(source.address, source.port, destination.address, destination.port, flow.protocol)


def _key(source: str, source_port: int, destination: str, port: int, protocol: int) -> _Key:
    """Protocols without ports go by their ends alone."""
    if protocol not in WITH_PORTS:
        return source, 0, destination, 0, protocol
    return source, source_port, destination, port, protocol
