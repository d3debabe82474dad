"""How long an undo takes from the wish to every connected agent.

In:   a reconciler in a process of its own, a thousand agents that only listen, one real receiver
Out:  percentiles over all agents and undos; processor seconds of either side
Shell. The clock starts where `tidegate rollout undo` writes its request, and stops where an agent hears
the announcement; for the real receiver, where it has fetched, verified, stored and applied. The agents share
the processors with the reconciler, as no fleet does: their seconds say how much of the time is theirs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.report import Result, percentile
from benchmarks.rollback_agents import name_of
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.request_file import RolloutFile
from tests.support.push_fleet import Node
from tests.support.reconciler_scene import Scene, deny

AGENTS: Final = 1_000
PROCESSES: Final = 2
UNDOS: Final = 10
TARGET_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 120.0
SETTLE_SECONDS: Final = 1.0
"""Between two undos: the answers of the one before are saved by then, as they are between real ones."""

USER_TICKS: Final = 11
SYSTEM_TICKS: Final = 12
"""Fields of /proc/PID/stat behind the command's name."""

Heard = dict[int, list[float]]
"""Sequence → when each agent heard of it."""


def run() -> list[Result]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="tidegate-rollback-") as directory:
        seen = asyncio.run(_measure(Path(directory)))
    return [
        *_results(f"undo → heard by {AGENTS:,} agents", seen.heard),
        *_results("undo → applied by a real receiver", seen.applied),
        _share("processor time of the reconciler, an undo", seen.reconciler_seconds),
        _share("processor time of the agents, an undo", seen.agents_seconds),
    ]


@dataclass(slots=True, kw_only=True)
class Seen:
    """Seconds from the wish, of every agent and undo; processor seconds of all undos together."""

    heard: list[float] = field(default_factory=list)
    applied: list[float] = field(default_factory=list)
    reconciler_seconds: float = 0.0
    agents_seconds: float = 0.0


def _share(what: str, seconds: float) -> Result:
    return Result(metric=what, value=seconds / UNDOS, unit="s")


def _results(what: str, seconds: list[float]) -> list[Result]:
    return [
        Result(
            metric=f"{what}, p{percent} of {UNDOS} undos",
            value=percentile(seconds, percent),
            unit="s",
            target=TARGET_SECONDS,
        )
        for percent in (50, 99, 100)
    ]


async def _measure(directory: Path) -> Seen:
    scene = Scene(directory, nodes=("node-a", *map(name_of, range(AGENTS))))
    path = "policies/shop/a.yaml"
    older = scene.repository.commit({path: deny("a")})
    program = scene.start_program()
    heard: Heard = defaultdict(list)
    seen = Seen()
    try:
        async with AsyncExitStack() as stack:
            node = await stack.enter_async_context(scene.agent())
            await _until(lambda: _enforces(node, older))
            listeners = await stack.enter_async_context(_listening(scene, heard))
            enforced = scene.repository.commit({path: deny("b")})
            await _until(lambda: _enforces(node, enforced) and _is_heard_by_all(heard, node))
            ours, theirs = _processor_seconds(program.pid), _processor_seconds(*listeners)
            for _ in range(UNDOS):
                await asyncio.sleep(SETTLE_SECONDS)
                began = time.time()
                RolloutFile(scene.state).ask(_undo(enforced, to=older))
                await _until(partial(_enforces, node, older))
                seen.applied.append(time.time() - began)
                await _until(lambda: _is_heard_by_all(heard, node))
                seen.heard += [at - began for at in heard[_sequence(node)]]
                enforced, older = older, enforced
            await asyncio.sleep(SETTLE_SECONDS)
            seen.reconciler_seconds = _processor_seconds(program.pid) - ours
            seen.agents_seconds = _processor_seconds(*listeners) - theirs
    finally:
        program.kill()
        program.wait()
    return seen


def _processor_seconds(*pids: int) -> float:
    """What these processes used until now."""
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[USER_TICKS]) + int(after_name[SYSTEM_TICKS])
    return ticks / os.sysconf("SC_CLK_TCK")


def _undo(enforced: str, *, to: str) -> Request:
    return Request(
        action=Action.ROLLBACK, revision=enforced, token=f"{enforced}/{time.time_ns()}", to=to
    )


def _enforces(node: Node, revision: str) -> bool:
    return bool(node.bundles) and node.bundles[-1].revision == revision


def _sequence(node: Node) -> int:
    return node.bundles[-1].sequence


def _is_heard_by_all(heard: Heard, node: Node) -> bool:
    return len(heard[_sequence(node)]) == AGENTS


@asynccontextmanager
async def _listening(scene: Scene, heard: Heard) -> AsyncIterator[list[int]]:
    """The light agents, in a few processes; yields their numbers."""
    pids = []
    share = AGENTS // PROCESSES
    async with AsyncExitStack() as stack:
        for number in range(PROCESSES):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.rollback_agents", str(scene.keys)),
                *(str(scene.port), str(number * share), str((number + 1) * share)),
                stdout=asyncio.subprocess.PIPE,
            )
            pids.append(process.pid)
            stack.push_async_callback(_end, process, asyncio.create_task(_read(process, heard)))
        yield pids


async def _read(process: asyncio.subprocess.Process, heard: Heard) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        sequence, at = line.split()
        heard[int(sequence)].append(float(at))


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
    await reading


async def _until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not claim():
            await asyncio.sleep(0.002)
