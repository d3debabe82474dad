"""What policy costs a real connection: beside no policy, nft and iptables, by the number of rules.

    client │ veth │ node │ veth │ server      TCP_CRR: connect, ask, close · TCP_RR: ask · stream: send

In:   two pods on a node; one contestant at a time between them, of 10 to 20,000 rules
Out:  microseconds of processor time a transaction or a MiB, and ratios to no policy; a picture of how
      they grow; ours beside no policy in pairs: the targets are for direct delivery
Shell. Client and server share one processor: their processor time is all that their packets cost, and
leaves out what else the machine does. The contestants of one size take turns; medians. The agent's part,
reading events, is on the others.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Final

from benchmarks.datapath import pictures, rule_lists
from benchmarks.datapath.paired import Ratio, measure_pairs
from benchmarks.datapath.pods import Pod, two_pods
from benchmarks.datapath.world import (
    PORT,
    SERVER,
    addresses_of,
    client_endpoint,
    generation_of,
    label_of,
    loaded_world,
    server_endpoint,
)
from benchmarks.report import DIRECTORY, QUICK_DIRECTORY, Result
from nodeagent.datapath import Datapath, LocalEnd
from nodeagent.datapath_options import DatapathOptions

SIZES: Final = (10, 100, 1_000, 10_000, 20_000)
QUICK_SIZES: Final = (10, 100)
ROUNDS, QUICK_ROUNDS = 7, 1
SECONDS, QUICK_SECONDS = 0.2, 0.05
PAIRS, QUICK_PAIRS = 40, 1
"""At fewest rules, and at most."""
FREE, OURS, DIRECT = "no policy", "tidegate", "tidegate, direct delivery"
TARGETS: Final = {"crr": 1.05, "rr": 1.02}
"""Times no policy's, by pairs, of direct delivery."""
FLAT_TARGET: Final = 1.15
"""Of the ratio at most rules to the ratio at fewest."""
READ_SECONDS: Final = 0.01
"""As often as the agent does."""

MEASURES: Final = {
    "crr": ("connect, ask, close", "µs", 1e6),
    "rr": ("ask", "µs", 1e6),
    "stream": ("stream", "µs/MiB", 1e6 * 2**20),
}
"""Mode of the load: what it does, the unit, and how many of it a second is."""

_DIRECT_TOO: Final = DatapathOptions(direct_delivery=True)
"""One version of the programs for all contestants: the maps say who is handed to directly."""
_ON_ONE_PROCESSOR: Final = ("taskset", "--cpu-list", str(min(os.sched_getaffinity(0))))
_SOURCE: Final = Path(__file__).with_name("load.c")

Contestant = Callable[[], AbstractContextManager[None]]
Taken = dict[str, dict[str, float]]
"""Mode → contestant → median figure."""


def run(*, quick: bool = False) -> list[Result]:
    """Measure, and draw."""
    sizes, rounds = (QUICK_SIZES, QUICK_ROUNDS) if quick else (SIZES, ROUNDS)
    seconds = QUICK_SECONDS if quick else SECONDS
    taken: dict[int, Taken] = {}
    paired: dict[int, dict[str, dict[str, Ratio]]] = {}
    with (
        loaded_world(options=_DIRECT_TOO) as world,
        two_pods() as (client, server),
        _load() as load,
    ):
        world.datapath.set_endpoint(client_endpoint(mac=client.mac), client.ifindex)
        world.datapath.set_endpoint(server_endpoint(mac=server.mac), server.ifindex)
        with _serving(load, server) as serving, _read(world.datapath):
            measure = partial(_figure, load, client, serving, seconds)
            for rules in sizes:
                _enforce(world.datapath, rules)
                contestants = _contestants(rules, world.datapath, client, server)
                if rules in (sizes[0], sizes[-1]):
                    pairs = QUICK_PAIRS if quick else PAIRS
                    paired[rules] = {
                        name: measure_pairs(contestants[name], measure, [*TARGETS], pairs)
                        for name in (OURS, DIRECT)
                    }
                taken[rules] = _medians(contestants, measure, rounds)
    pictures.draw_connections(
        {what: _ratios(taken, mode) for mode, (what, _, _) in MEASURES.items()},
        (QUICK_DIRECTORY if quick else DIRECTORY) / "connect.svg",
    )
    return [*_results(taken), *_flatness(taken), *_pairs(paired)]


def _contestants(rules: int, datapath: Datapath, client: Pod, server: Pod) -> dict[str, Contestant]:
    return {
        FREE: nullcontext,
        OURS: partial(_attached, datapath, client, server),
        DIRECT: partial(_attached, datapath, client, server, is_direct=True),
        "nft set": partial(rule_lists.nft_set, rules),
        "nft linear": partial(rule_lists.nft_linear, rules),
        "iptables-legacy linear": partial(rule_lists.iptables_legacy, rules),
        "iptables-nft linear": partial(rule_lists.iptables_nft, rules),
    }


def _medians(
    contestants: Mapping[str, Contestant], measure: Callable[[str], float], rounds: int
) -> Taken:
    taken: dict[str, dict[str, list[float]]] = {
        mode: {name: [] for name in contestants} for mode in MEASURES
    }
    for _ in range(rounds):
        for name, applied in contestants.items():
            with applied():
                for mode, figures in taken.items():
                    figures[name].append(measure(mode))
    return {
        mode: {name: statistics.median(values) for name, values in figures.items()}
        for mode, figures in taken.items()
    }


def _figure(load: Path, client: Pod, serving: int, seconds: float, mode: str) -> float:
    options = (mode, SERVER, str(PORT), str(seconds), str(serving))
    command = client.enter(*_ON_ONE_PROCESSOR, str(load), *options)
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    _, _, scale = MEASURES[mode]
    return float(told) * scale


def _results(taken: Mapping[int, Taken]) -> Iterator[Result]:
    for mode, (what, unit, _) in MEASURES.items():
        for rules, figures in taken.items():
            for name, value in figures[mode].items():
                yield Result(
                    metric=f"{what}, {name}, {rules:,} rules",
                    value=value,
                    unit=unit,
                    baseline=None if name == FREE else figures[mode][FREE],
                )


def _flatness(taken: Mapping[int, Taken]) -> Iterator[Result]:
    fewest, most = min(taken), max(taken)
    for mode, (what, _, _) in MEASURES.items():
        for name, points in _ratios(taken, mode).items():
            first, last = points[0][1], points[-1][1]
            yield Result(
                metric=f"{what}, {name}, growth {fewest:,} → {most:,} rules",
                value=last,
                unit="× no policy",
                baseline=first,
                target=FLAT_TARGET if name in (OURS, DIRECT) else None,
            )


def _pairs(paired: Mapping[int, Mapping[str, Mapping[str, Ratio]]]) -> Iterator[Result]:
    for rules, contestants in paired.items():
        for name, ratios in contestants.items():
            for mode, ratio in ratios.items():
                metric = f"{MEASURES[mode][0]}, {name} in pairs, {rules:,} rules"
                target = TARGETS[mode] if name == DIRECT else None
                yield from _bounded(metric, ratio, target)


def _bounded(metric: str, ratio: Ratio, target: float | None) -> Iterator[Result]:
    yield Result(metric=metric, value=ratio.median, unit="× no policy", target=target)
    for bound, value in (("at least", ratio.least), ("at most", ratio.most)):
        yield Result(metric=f"{metric}, {bound} (95 %)", value=value, unit="× no policy")


def _ratios(taken: Mapping[int, Taken], mode: str) -> dict[str, list[tuple[int, float]]]:
    """Contestant → (rules, times no policy's figure of the same rounds)."""
    names = [name for name in next(iter(taken.values()))[mode] if name != FREE]
    return {
        name: [(rules, of[mode][name] / of[mode][FREE]) for rules, of in taken.items()]
        for name in names
    }


def _enforce(datapath: Datapath, rules: int) -> None:
    """Client → server on one port, among as many entries; nothing else."""
    datapath.upsert_addresses(addresses_of(rules))
    generation = generation_of(rules)
    datapath.activate(datapath.fill(generation, label=label_of(generation)))


@contextmanager
def _attached(datapath: Datapath, *pods: Pod, is_direct: bool = False) -> Iterator[None]:
    ends = {pod.address: LocalEnd(ifindex=pod.ifindex, is_pair=True) for pod in pods}
    datapath.set_local_ends(ends if is_direct else {})
    for pod in pods:
        datapath.attach(pod.ifindex)
    try:
        yield
    finally:
        for pod in pods:
            datapath.detach(pod.ifindex)


@contextmanager
def _read(datapath: Datapath) -> Iterator[None]:
    """Events are taken out of the ring: in a full one they cost less than they do in use."""
    is_over = Event()

    def read_on() -> None:
        with closing(datapath.events()) as reader:
            while not is_over.wait(READ_SECONDS):
                while reader.read_records():
                    pass

    thread = Thread(target=read_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def _load() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "load"
        subprocess.run(["clang", "-O2", str(_SOURCE), "-o", str(program)], check=True)
        yield program


@contextmanager
def _serving(load: Path, server: Pod) -> Iterator[int]:
    """A server, and its process id."""
    command = server.enter(*_ON_ONE_PROCESSOR, str(load), "server", SERVER, str(PORT))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as serving:
        if serving.stdout is None or not serving.stdout.readline():
            raise RuntimeError("the server does not listen")
        try:
            yield serving.pid
        finally:
            serving.kill()
