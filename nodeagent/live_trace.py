"""Join what the trace's probe sees with what the agent tells of the same flows.

In:   a Question for the probe, the agent's socket, which flows are meant
Out:  sightings and flows as they come; denied flows with their processes
Shell: one thread reads the probe, one the agent; both end with the reader.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from netpolicy.flow import FlowRecord
from nodeagent.flows.filters import FlowFilter
from nodeagent.local_api_client import AgentUnreachable, open_agent
from nodeagent.trace.denied import Denied, DeniedFlows
from nodeagent.trace.messages import Answer, Question, Ready, Seen
from nodeagent.trace.session import ProbeDied, answers

TICK_SECONDS: Final = 0.1
LATE_FLOWS_SECONDS: Final = 0.5
"""The agent tells of a flow a moment after its packet passed."""
_LONGEST_TICK_NS: Final = 10_000_000
"""The kernel tells the time of a flow to its tick, so up to that much too early."""


class AgentSilent:
    """The agent does not tell its flows; the message is for people."""

    def __init__(self, message: str) -> None:
        self.message = message


class _End:
    """The probe has ended; `error` says why if it died."""

    def __init__(self, error: ProbeDied | None) -> None:
        self.error = error


Item: TypeAlias = Answer | FlowRecord | AgentSilent
_Queue: TypeAlias = "queue.SimpleQueue[Item | _End]"


def live_items(
    question: Question, socket: Path, wanted: FlowFilter, is_meant: Callable[[FlowRecord], bool]
) -> Generator[Item | None, None, None]:
    """What comes, from both; None each tick without anything. Raises ProbeDied.

    Flows are asked for once the probe is ready: what happened before is not its affair.
    """
    items: _Queue = queue.SimpleQueue()
    stopping = threading.Event()
    threading.Thread(target=_read_probe, args=(question, items, stopping), daemon=True).start()
    ends_at: float | None = None
    error: ProbeDied | None = None
    try:
        while ends_at is None or time.monotonic() < ends_at:
            try:
                item = items.get(timeout=TICK_SECONDS)
            except queue.Empty:
                yield None
                continue
            if isinstance(item, _End):
                error, ends_at = item.error, time.monotonic() + LATE_FLOWS_SECONDS
                continue
            if isinstance(item, Ready):
                _start_flows(socket, wanted, is_meant, items)
            yield item
    finally:
        stopping.set()
    if error is not None:
        raise error


def denied_flows(items: Iterator[Item | None]) -> Iterator[Item | Denied]:
    """Each denied flow with the process that opened it; answers and failures pass through."""
    joined = DeniedFlows()
    for item in items:
        now = time.monotonic()
        yield from joined.expire(now=now)
        if isinstance(item, Seen):
            yield from joined.take_process(item.sighting)
        elif isinstance(item, FlowRecord):
            yield from joined.take_flow(item, now=now)
        elif item is not None:
            yield item
    yield from joined.expire(now=float("inf"))


def _read_probe(question: Question, items: _Queue, stopping: threading.Event) -> None:
    conversation = answers(question)
    error: ProbeDied | None = None
    try:
        for answer in conversation:
            if stopping.is_set():
                break
            items.put(answer)
    except ProbeDied as died:
        error = died
    finally:
        conversation.close()
        items.put(_End(error))


def _start_flows(
    socket: Path, wanted: FlowFilter, is_meant: Callable[[FlowRecord], bool], items: _Queue
) -> None:
    since_ns = time.time_ns() - _LONGEST_TICK_NS

    def read() -> None:
        try:
            with open_agent(socket) as agent:
                for flow in agent.flows(wanted, last=1, follow=True):
                    if isinstance(flow, FlowRecord) and flow.time_ns >= since_ns and is_meant(flow):
                        items.put(flow)
        except AgentUnreachable as error:
            items.put(AgentSilent(str(error)))

    threading.Thread(target=read, daemon=True).start()
