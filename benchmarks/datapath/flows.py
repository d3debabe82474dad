"""Flows from the kernel to a subscriber: 100,000 new ones a second, and then as many as will come.

    BPF_PROG_TEST_RUN ──▶ ring buffer ──▶ pump ──▶ socket ──▶ subscriber       three processes

In:   a datapath of its own, on which each bare SYN is a new flow
Out:  the agent's processor time, latency, what was lost and whether it was counted; the cost of decoding
      beside an object for each event
Shell. Whatever is sent must be delivered or counted as lost.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks.datapath.flows_object_by_object import flow_records
from benchmarks.datapath.flows_processes import (
    PROBE_PORT,
    Seen,
    Sender,
    cpu_seconds,
    serve_flows,
    subscribe,
)
from benchmarks.datapath.packets import SYN, context, tcp4
from benchmarks.datapath.world import (
    CLIENT,
    PORT,
    SERVER,
    World,
    addresses_of,
    client_endpoint,
    generation_of,
    label_of,
    loaded_world,
)
from benchmarks.report import Result
from netpolicy.rules import Direction
from nodeagent.datapath import Datapath
from nodeagent.datapath.event_ring import RECORD_BYTES
from nodeagent.datapath.events import READ_LIMIT
from nodeagent.flows.naming import Names, name_flows

RATE: Final = 100_000
SECONDS: Final = 5
TICK_SECONDS: Final = 0.01
FLOOD: Final = 2_000_000
CORES_TARGET: Final = 1.0
ROUNDS: Final = 20
PATIENCE_SECONDS: Final = 60.0

ENTRIES: Final = 100
LOOPBACK: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What became of the flows that were sent."""

    sent: int
    seconds: float
    delivered: int
    lost: int
    agent_cores: float
    subscriber_cores: float
    latency_ms: float


def run(*, quick: bool = False) -> list[Result]:
    """Measure; `quick`: a tenth of the time."""
    part = 10 if quick else 1
    with loaded_world() as world:
        datapath = world.datapath
        _set_up(datapath)
        results = _decoding(datapath)
        with _subscribed(world) as (agent, subscriber, seen):
            steadily, at_once = partial(_send_steadily, part), partial(_send_at_once, part)
            steady = _pass(datapath, agent, subscriber, seen, steadily)
            flood = _pass(datapath, agent, subscriber, seen, at_once)
    return [
        *results,
        Result(metric=f"agent at {RATE:,} flows/s", value=steady.agent_cores, unit="cores",
               target=CORES_TARGET),
        Result(metric=f"subscriber at {RATE:,} flows/s", value=steady.subscriber_cores, unit="cores"),
        Result(metric="sent flows/s", value=steady.sent / steady.seconds, unit="flows/s"),
        Result(metric="delivered flows/s", value=steady.delivered / steady.seconds, unit="flows/s"),
        Result(metric="lost, and counted", value=steady.lost, unit="flows"),
        Result(metric="lost, and not counted", value=_uncounted(steady), unit="flows", target=0),
        Result(metric="99 % of batches arrive within", value=steady.latency_ms, unit="ms"),
        Result(metric=f"flood of {flood.sent:,}: sent flows/s", value=flood.sent / flood.seconds,
               unit="flows/s"),
        Result(metric="flood: delivered", value=flood.delivered, unit="flows"),
        Result(metric="flood: lost, and counted", value=flood.lost, unit="flows"),
        Result(metric="flood: lost, and not counted", value=_uncounted(flood), unit="flows", target=0),
    ]  # fmt: skip


def _uncounted(passage: Passage) -> int:
    return abs(passage.sent - passage.delivered - passage.lost)


def _set_up(datapath: Datapath) -> None:
    """The client behind the loopback interface: test runs need a real one, and send nothing."""
    datapath.set_endpoint(client_endpoint("lo"), LOOPBACK)
    datapath.upsert_addresses(addresses_of(ENTRIES))
    generation = generation_of(ENTRIES)
    datapath.activate(datapath.fill(generation, label=label_of(generation)))


def _send(datapath: Datapath, count: int, source_port: int = 40_000) -> None:
    packet = tcp4(CLIENT, source_port, SERVER, PORT, SYN)
    datapath.run_program(Direction.EGRESS, packet, context=context(LOOPBACK), repeat=count)


def _send_steadily(part: int, datapath: Datapath) -> int:
    """So many a second, a few at a time."""
    started, sent = time.monotonic(), 0
    while (passed := time.monotonic() - started) < SECONDS / part:
        due = int(passed * RATE) - sent
        if due:
            _send(datapath, due, 1024 + sent % 50_000)
            sent += due
        time.sleep(TICK_SECONDS)
    return sent


def _send_at_once(part: int, datapath: Datapath) -> int:
    count = FLOOD // part
    for start in range(0, count, READ_LIMIT):
        _send(datapath, min(READ_LIMIT, count - start))
    return count


# Kernel to subscriber -----------------------------------------------------------------------


@contextmanager
def _subscribed(world: World) -> Iterator[tuple[int, int, Seen]]:
    """An agent's pump and socket, and a subscriber of every flow, each a process of its own."""
    spawn = get_context("spawn")
    seen = Seen.shared(spawn)
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        socket = Path(directory) / "agent.sock"
        agent = spawn.Process(target=serve_flows, args=(world.config, socket))
        subscriber = spawn.Process(target=subscribe, args=(socket, seen))
        agent.start()
        subscriber.start()
        try:
            _wait_for_the_first(world.datapath, seen)
            assert agent.pid is not None
            assert subscriber.pid is not None
            yield agent.pid, subscriber.pid, seen
        finally:
            for process in (subscriber, agent):
                process.terminate()
                process.join()


def _wait_for_the_first(datapath: Datapath, seen: Seen) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not seen.probes.value:
        if time.monotonic() > deadline:
            raise RuntimeError("no flow arrives at the subscriber")
        _send(datapath, 1, PROBE_PORT)
        time.sleep(0.1)


def _settle(seen: Seen, expected: int) -> None:
    """Until all that is expected is accounted for, or nothing more comes."""
    before, quiet = -1, time.monotonic()
    while seen.total < expected or time.monotonic() - quiet < 0.5:
        if seen.total != before:
            before, quiet = seen.total, time.monotonic()
        if time.monotonic() - quiet > PATIENCE_SECONDS / 4:
            return
        time.sleep(0.02)


def _pass(datapath: Datapath, agent: int, subscriber: int, seen: Seen, send: Sender) -> Passage:
    delivered, lost, total = seen.delivered.value, seen.lost.value, seen.total
    cpu = cpu_seconds(agent), cpu_seconds(subscriber)
    started = time.monotonic()
    sent = send(datapath)
    seconds = time.monotonic() - started
    _settle(seen, total + sent)
    return Passage(
        sent=sent,
        seconds=seconds,
        delivered=seen.delivered.value - delivered,
        lost=seen.lost.value - lost,
        agent_cores=(cpu_seconds(agent) - cpu[0]) / seconds,
        subscriber_cores=(cpu_seconds(subscriber) - cpu[1]) / seconds,
        latency_ms=seen.latency_ms.value,
    )


# Decoding ----------------------------------------------------------------------------------


def _decoding(datapath: Datapath) -> list[Result]:
    """Processor time an event, least disturbed of several rounds."""
    names = Names(node="bench")
    steps: dict[str, list[float]] = {"copied": [], "as columns": [], "named": [], "objects": []}
    with closing(datapath.events()) as reader:
        for _ in range(ROUNDS):
            _send(datapath, READ_LIMIT)
            started = time.process_time()
            records = reader.read_records()
            copied = time.process_time()
            columns = reader.columns(records)
            decoded = time.process_time()
            name_flows(columns, names, boot_time_ns=0)
            named = time.process_time()
            assert len(records) == READ_LIMIT * RECORD_BYTES
            _send(datapath, READ_LIMIT)
            again = time.process_time()
            assert len(flow_records(reader.read_records())) == READ_LIMIT
            steps["objects"].append(time.process_time() - again)
            steps["copied"].append(copied - started)
            steps["as columns"].append(decoded - started)
            steps["named"].append(named - started)
    cost = {step: min(times) / READ_LIMIT * 1e6 for step, times in steps.items()}
    return [
        Result(metric=f"an event, {step}", value=cost[step], unit="µs", baseline=cost["objects"])
        for step in ("copied", "as columns", "named")
    ]
