"""A large cluster: how soon a pod's identity reaches every agent, at what cost, and a start of all at once.

In:   a real API server with NODES nodes and PODS pods, the reconciler in a process of its own, an agent's
      inventory stream for each node
Out:  percentiles over pods and agents; processor seconds; memory; requests to the API server
Shell. The clock of a pod starts before the kubelet's write that gives it its address, and stops where an
agent has the complete version that holds it. Everything shares this machine's processors, as no cluster
does: what each part used is told beside the times.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.report import Result, percentile
from benchmarks.rollback import _processor_seconds as processor_seconds
from benchmarks.scale_agents import name_of
from benchmarks.scale_cluster import Probes, fill
from tests.support.kube_scene import apply, install_crds, make_namespace, repository
from tests.support.kube_server import AUDIT_LOG, KubeMachine, kube_machine
from tests.support.reconciler_scene import Scene, deny

NODES: Final = int(os.environ.get("TIDEGATE_SCALE_NODES", "1000"))
PODS: Final = int(os.environ.get("TIDEGATE_SCALE_PODS", "50000"))
PROCESSES: Final = 2
PROBES: Final = 40
PAUSE_SECONDS: Final = 1.0
TARGET_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 420.0
NAMESPACE: Final = "tidegate-system"

CONFIG: Final = """\
state_dir: state
keys: keys
listen: "127.0.0.1:{port}"
agents_patience: 0
"""


@dataclass(slots=True)
class Heard:
    """What the agents say, by agent: one whose connection broke says it again. `pods`: when it first had a
    pod of ours; `whole`: when it first had everything since the last start."""

    pods: dict[str, dict[bytes, float]] = field(default_factory=lambda: defaultdict(dict))
    whole: dict[bytes, float] = field(default_factory=dict)


def run() -> list[Result]:
    """Measure."""
    with tempfile.TemporaryDirectory(prefix="tidegate-scale-") as directory:
        root = Path(directory)
        with kube_machine(root / "kubernetes") as machine:
            return asyncio.run(_Bench(root, machine).run())


class _Bench:
    def __init__(self, root: Path, machine: KubeMachine) -> None:
        self._machine = machine
        self._scene = Scene(root, nodes=tuple(map(name_of, range(NODES))))
        self._heard = Heard()
        self._results: list[Result] = []

    async def run(self) -> list[Result]:
        """Fill, start, ask for pods, start again."""
        fill(self._machine, nodes=NODES, pods=PODS)
        install_crds(self._machine.server)
        make_namespace(self._machine.server, NAMESPACE)
        self._scene.repository.commit({"policies/shop/a.yaml": deny("a")})
        apply(self._machine.server, repository(NAMESPACE, url=self._scene.url, interval="1m"))
        async with AsyncExitStack() as stack:
            agents = await stack.enter_async_context(self._agents())
            reconciler = self._start("first")
            stack.callback(_kill, lambda: reconciler)
            await self._until_whole("first start", reconciler.pid, agents)
            await self._probe(reconciler.pid, agents)
            _kill(lambda: reconciler)
            await asyncio.sleep(PAUSE_SECONDS)
            reconciler = self._start("again")
            await self._until_whole("restart herd", reconciler.pid, agents)
        self._tell(
            "lists' pages and watches that the API server was asked for, both starts",
            float(self._requests()),
            "",
        )
        return self._results

    async def _until_whole(self, what: str, pid: int, agents: list[int]) -> None:
        """Every agent has everything again."""
        self._heard.whole.clear()
        began, theirs = time.time(), processor_seconds(*agents)
        await _until(lambda: len(self._heard.whole) >= NODES)
        seconds = [at - began for at in self._heard.whole.values()]
        for percent in (50, 100):
            self._tell(
                f"{what} → everything at {percent} % of {NODES:,} agents",
                percentile(seconds, percent),
            )
        self._tell(f"{what}: processor time of the reconciler", processor_seconds(pid))
        self._tell(f"{what}: processor time of all agents", processor_seconds(*agents) - theirs)
        self._tell(f"{what}: most memory of the reconciler", _peak_megabytes(pid), "MB")

    async def _probe(self, pid: int, agents: list[int]) -> None:
        """Give addresses to pods, one after the other."""
        probes, seconds = Probes(self._machine), list[float]()
        names = [await asyncio.to_thread(probes.make) for _ in range(PROBES)]
        await asyncio.sleep(5 * PAUSE_SECONDS)
        ours, theirs = processor_seconds(pid), processor_seconds(*agents)
        for name in names:
            began = time.time()
            await asyncio.to_thread(probes.give_address, name)
            await _until(lambda: len(self._heard.pods[name]) >= NODES)  # noqa: B023
            seconds += [at - began for at in self._heard.pods[name].values()]
            await asyncio.sleep(random.uniform(0, PAUSE_SECONDS))
        for percent in (50, 99, 100):
            self._tell(
                f"a pod's address → {NODES:,} agents, p{percent} of {PROBES} pods",
                percentile(seconds, percent),
                target=TARGET_SECONDS if percent == 99 else None,
            )
        used = processor_seconds(pid) - ours
        self._tell("processor time of the reconciler, a pod", used / PROBES)
        used = processor_seconds(*agents) - theirs
        self._tell("processor time of all agents, a pod", used / PROBES)

    def _start(self, start: str) -> subprocess.Popen[bytes]:
        root = self._scene.root
        config = root / "reconciler.yaml"
        config.write_text(CONFIG.format(port=self._scene.port))
        command = [
            *(sys.executable, "-c", "from reconciler.cli import main; main()", "run"),
            *("--kubernetes", "--namespace", NAMESPACE, "--config", str(config)),
            *("--kubeconfig", str(self._machine.server.kubeconfig)),
            *("--identity", "replica", "--pod-address", "127.0.0.1"),
        ]
        with (root / f"{start}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    @asynccontextmanager
    async def _agents(self) -> AsyncIterator[list[int]]:
        """The agents, in a few processes; yields their numbers."""
        pids = []
        async with AsyncExitStack() as stack:
            for number in range(PROCESSES):
                bounds = (NODES * number // PROCESSES, NODES * (number + 1) // PROCESSES)
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "benchmarks.scale_agents", str(self._scene.keys)),
                    *map(str, (self._scene.port, *bounds)),
                    stdout=asyncio.subprocess.PIPE,
                )
                pids.append(process.pid)
                reading = asyncio.create_task(self._read(process))
                stack.push_async_callback(_end, process, reading)
            yield pids

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            kind, what, agent, at = line.split()
            if kind == b"pod":
                self._heard.pods[what.decode()].setdefault(agent, float(at))
            elif int(what) >= PODS:
                self._heard.whole.setdefault(agent, float(at))

    def _requests(self) -> int:
        log = self._machine.server.folder / AUDIT_LOG
        events = map(json.loads, log.read_text().splitlines())
        return sum(
            event["verb"] in ("list", "watch") and event["userAgent"].startswith("OpenAPI")
            for event in events
        )

    def _tell(
        self, metric: str, value: float, unit: str = "s", target: float | None = None
    ) -> None:
        print(f"{metric}: {value:.3g} {unit}", flush=True)  # minutes pass between two of them
        self._results.append(Result(metric=metric, value=value, unit=unit, target=target))


def _kill(which: Callable[[], subprocess.Popen[bytes]]) -> None:
    process = which()
    process.kill()
    process.wait()


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
    await reading


def _peak_megabytes(pid: int) -> float:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


async def _until(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not claim():
            await asyncio.sleep(0.01)
