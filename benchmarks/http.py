"""What judging requests costs: beside no policy, policy by port, and other proxies with the same rules.

In:   one node in network namespaces, with everything that runs on one: agent, datapath, Envoy (`http_ways`)
Out:  time a request and latencies, on connections that are kept and on new ones; the processor time a
      request of each process on the way; how long a killed Envoy is away
Shell. Throughput is told as the time a request takes in all, 1 / (requests a second): smaller is better. The
ways take turns; medians of the rounds. Client, server and proxy share the machine's processors.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.http_ways import DIRECT, L4, L7, NGINX, NODE, PLAIN_ENVOY, Way, Ways
from benchmarks.report import Result
from tests.support.world import World

ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, QUICK_SECONDS = 2, 1
CONNECTIONS: Final = 32
KILLS, QUICK_KILLS = 5, 1
AWAY_SECONDS: Final = 2.0
TWICE_L4: Final = 2.0
"""Half of its requests a second."""
TENTH_SLOWER: Final = 1.1
BASELINES: Final = {L4: DIRECT, L7: L4, PLAIN_ENVOY: L4, NGINX: L4}
MODES: Final = {"kept": (), "new": ("-H", "Connection: close")}
"""Connections, and the words that make wrk use them so."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_SCRIPT: Final = """\
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One turn of a way: microseconds. `processor`: of each process on the way, a request."""

    request: float
    p50: float
    p99: float
    processor: Mapping[str, float]


class FaultyTurn(Exception):
    """Requests failed: what was measured is not what was meant."""


def run(*, quick: bool = False) -> list[Result]:
    """Measure."""
    if missing := [program for program in ("wrk", "nginx") if shutil.which(program) is None]:
        raise SystemExit(f"{' and '.join(missing)} missing: apt-get install wrk nginx-light")
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    with World(NODE) as world, tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "done.lua"
        script.write_text(_SCRIPT)
        started = Ways(world)
        ways = started.ways()
        for name, way in ways.items():
            world.wait_for(f"{name} answers", lambda way=way: started.is_answered(way))  # type: ignore[misc]
        taken: dict[str, dict[str, list[Taken]]] = {
            mode: {name: [] for name in ways} for mode in MODES
        }
        for _ in range(rounds):
            for mode, of_mode in taken.items():
                for name, way in ways.items():
                    of_mode[name].append(_turn(world, way, MODES[mode], seconds, script))
        away = [_away(started, ways[L7]) for _ in range(QUICK_KILLS if quick else KILLS)]
    results = [result for mode, of_mode in taken.items() for result in _results(mode, of_mode)]
    worst = Result(
        metric=f"a killed Envoy is away, worst of {len(away)}",
        value=max(away),
        unit="s",
        target=AWAY_SECONDS,
    )
    return [*results, worst]


def _turn(world: World, way: Way, words: tuple[str, ...], seconds: int, script: Path) -> Taken:
    before = _processor_seconds(way)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", str(script)]
    told = world.run(way.client.name, [*command, *words, way.url], timeout=seconds + 30).stdout
    found = json.loads(told.splitlines()[-1])
    # New connections: the server's end of the last ones is cut off when time is up.
    if found["errors"] > CONNECTIONS or not found["requests"]:
        raise FaultyTurn(f"{way.url}: {found}")
    used = _processor_seconds(way)
    return Taken(
        request=found["microseconds"] / found["requests"],
        p50=found["p50"],
        p99=found["p99"],
        processor={name: (used[name] - before[name]) * 1e6 / found["requests"] for name in used},
    )


def _processor_seconds(way: Way) -> dict[str, float]:
    return {name: sum(map(_seconds_of, pids)) for name, pids in way.processes.items()}


def _seconds_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _away(started: Ways, way: Way) -> float:
    """How long nobody answers after Envoy is killed."""
    os.kill(started.envoy, signal.SIGKILL)
    begun = time.monotonic()
    started.world.wait_for("Envoy is back", lambda: started.is_answered(way), timeout=60)
    return time.monotonic() - begun


def _results(mode: str, taken: Mapping[str, list[Taken]]) -> Iterator[Result]:
    medians = {name: _median(turns) for name, turns in taken.items()}
    for name, one in medians.items():
        base = medians.get(BASELINES.get(name, ""))
        for what in ("request", "p50", "p99"):
            is_judged = (mode, name, what) == ("kept", L7, "request")
            yield Result(
                metric=f"{mode}: {name}, {what}",
                value=getattr(one, what),
                unit="µs",
                baseline=getattr(base, what) if base else None,
                target=TWICE_L4 if is_judged else None,
            )
        for process, value in one.processor.items():
            yield Result(metric=f"{mode}: {name}, processor of {process}", value=value, unit="µs")
    yield Result(
        metric=f"{mode}: L7 policy beside plain Envoy, request",
        value=medians[L7].request,
        unit="µs",
        baseline=medians[PLAIN_ENVOY].request,
        target=TENTH_SLOWER,
    )


def _median(turns: list[Taken]) -> Taken:
    return Taken(
        request=statistics.median(turn.request for turn in turns),
        p50=statistics.median(turn.p50 for turn in turns),
        p99=statistics.median(turn.p99 for turn in turns),
        processor={
            name: statistics.median(turn.processor[name] for turn in turns)
            for name in turns[0].processor
        },
    )
