"""What encryption between nodes costs: the same pods, plain and through the tunnel, taking turns in one run.

    frontend │ node-a ══ wireguard-go or the kernel's ══ node-b │ api-gateway

In:   two nodes in namespaces, with the datapath on both pods' interfaces either way
Out:  time a MiB of one stream, round trips, processor time a Gbit; each beside the plain way's
Shell. Processor time is the sender's, the receiver's and both wireguard-go's: what else the machine does
is left out. Medians of the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.report import Result, percentile
from netpolicy.encryption import Encryption
from tests.support.tunnel_world import STRICT, TunnelNodes
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

ROUNDS: Final = 5
STREAM_SECONDS: Final = 2.0
QUESTIONS: Final = 1_000
PORT: Final = 7777
CLIENT: Final = ECOMMERCE.pod("frontend")
SERVER: Final = ECOMMERCE.pod("api-gateway")
PLAIN, TUNNEL = "plain", "tunnel"
_MIB: Final = 2**20
_GBIT: Final = 1e9 / 8
_TICKS: Final = os.sysconf("SC_CLK_TCK")

Taken = dict[str, list[float]]


def run() -> list[Result]:
    """Measure."""
    taken: dict[str, Taken] = {PLAIN: {}, TUNNEL: {}}
    with World(ECOMMERCE) as world:
        nodes = TunnelNodes(world)
        nodes.tell_all(mode="off", settings=STRICT)
        for node in ECOMMERCE.nodes:
            nodes.start(node.name)
        world.start("load", SERVER.name, _load("serve", str(PORT)))
        for _ in range(ROUNDS):
            for way, figures in taken.items():
                _take_way(nodes, way, STRICT)
                for metric, value in _measure(nodes).items():
                    figures.setdefault(metric, []).append(value)
    return [_result(metric, taken) for metric in taken[PLAIN]]


def _take_way(nodes: TunnelNodes, way: str, settings: Encryption) -> None:
    if way == TUNNEL:
        nodes.tell_all(mode="strict", settings=settings)
        nodes.exchange_keys(settings=settings, mode="strict")
    else:
        nodes.tell_all(mode="off", settings=settings)
        nodes.world.wait_for(
            "there is no tunnel",
            lambda: not any(nodes.devices(node.name) for node in ECOMMERCE.nodes),
        )
    nodes.world.wait_for("pods talk", lambda: _answers(nodes.world), timeout=30)


def _answers(world: World) -> bool:
    return world.run(CLIENT.name, _load("ask", str(PORT), "1"), check=False).returncode == 0


def _measure(nodes: TunnelNodes) -> dict[str, float]:
    before = _wireguard_seconds(nodes)
    sent = json.loads(_ask(nodes.world, "stream", str(PORT), str(STREAM_SECONDS)))
    used = sent["processor_seconds"] + _wireguard_seconds(nodes) - before
    trips = json.loads(_ask(nodes.world, "ask", str(PORT), str(QUESTIONS)))
    return {
        "one stream, µs/MiB": sent["seconds"] * 1e6 / (sent["bytes"] / _MIB),
        "processor, s/Gbit": used / (sent["bytes"] / _GBIT),
        "round trip p50, µs": percentile(trips, 50),
        "round trip p99, µs": percentile(trips, 99),
    }


def _result(metric: str, taken: dict[str, Taken]) -> Result:
    what, unit = metric.rsplit(", ", 1)
    return Result(
        metric=what,
        value=statistics.median(taken[TUNNEL][metric]),
        unit=unit,
        baseline=statistics.median(taken[PLAIN][metric]),
    )


def _ask(world: World, *words: str) -> str:
    return world.run(CLIENT.name, _load(*words), timeout=120).stdout


def _load(word: str, *rest: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.tunnel_load", word, SERVER.v4, *rest]


def _wireguard_seconds(nodes: TunnelNodes) -> float:
    """Processor seconds that both wireguard-go have used; the kernel's WireGuard has no process."""
    return sum(
        _seconds_of(pid) for node in ECOMMERCE.nodes for pid in _wireguard_go(nodes, node.name)
    )


def _wireguard_go(nodes: TunnelNodes, node: str) -> list[int]:
    command = ["ip", "netns", "pids", nodes.world.namespace(node)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pids = map(int, shown.split())
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().startswith("wireguard-go")]


def _seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
