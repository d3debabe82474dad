"""How soon an agent finds what somebody with root changed in the kernel, and how soon it is put back.

    tamper ──found──▶ found_at ──repaired──▶ repaired_at        of a live agent, at any moment of its turn

In:   a node of a world with an agent under the bootstrap policy; two nodes with tunnels between them
Out:  seconds to find and to repair, by what was done: median and worst, beside the promise
Shell. A route is put back in the moment it is found: what is told is when it is there again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.report import Result, percentile
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.datapath import abi, libbpf
from nodeagent.local_api_client import AgentClient, open_agent
from nodeagent.wireguard.routes import MARKED_TABLE
from tests.support.live_agents import Agents
from tests.support.standing_programs import take_ours_off
from tests.support.tunnel_world import NORMAL, TunnelNodes
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

ROUNDS: Final = 10
FOUND_TARGET_SECONDS, REPAIRED_TARGET_SECONDS = 5.0, 1.0
TURN_SECONDS: Final = 3.0
"""The agent's: each change comes at another moment of it."""
PATIENCE_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.02
POD: Final = ECOMMERCE.pod("frontend")
NODE: Final = POD.node.name
_FIRST: Final = bytes(4)

Taken = Mapping[str, list[float]]
"""`found` and `repaired` → seconds."""


def run() -> list[Result]:
    """Measure."""
    return [*_of_the_kernels_maps(), *_of_routes()]


def _of_the_kernels_maps() -> Iterator[Result]:
    with World(ECOMMERCE) as world:
        agents = Agents(world)
        agents.start(NODE)
        pins = world.bpffs / NODE / "current" / "maps"
        deeds: dict[str, tuple[str, Callable[[], None]]] = {
            "an entry deleted": ("generation", lambda: _delete_an_entry(pins)),
            "a program detached": ("program", lambda: take_ours_off(world, NODE, POD.interface)),
            "a pin replaced": ("pin", lambda: _replace_a_pin(pins)),
        }
        with open_agent(world.directory / f"{NODE}.sock") as client:
            for what, (kind, deed) in deeds.items():
                yield from _rows(what, _times(client, kind, deed))


def _times(client: AgentClient, kind: str, deed: Callable[[], None]) -> Taken:
    taken: dict[str, list[float]] = {"found": [], "repaired": []}
    for moment in _moments():
        time.sleep(moment)
        before, begun = _repaired(client.status(), kind), time.time()
        deed()
        _wait(lambda before=before: _repaired(client.status(), kind) > before)  # type: ignore[misc]
        drift = client.status().drift
        taken["found"].append(drift.found_at - begun)
        taken["repaired"].append(drift.repaired_at - drift.found_at)
    return taken


def _of_routes() -> Iterator[Result]:
    with World(ECOMMERCE) as world:
        nodes = TunnelNodes(world)
        nodes.tell_all(mode="on", settings=NORMAL)
        nodes.start_all()
        nodes.exchange_keys(settings=NORMAL, mode="on")

        def routes() -> list[str]:
            command = ["ip", "route", "show", "table", str(MARKED_TABLE), "type", "unicast"]
            return world.run(NODE, command).stdout.splitlines()

        _wait(lambda: bool(routes()))
        back = []
        for moment in _moments():
            time.sleep(moment)
            whole = routes()
            begun = time.time()
            world.run(NODE, ["ip", "route", "del", *whole[0].split(), "table", str(MARKED_TABLE)])
            _wait(lambda whole=whole: routes() == whole)  # type: ignore[misc]
            back.append(time.time() - begun)
        yield from _rows("a route removed", {"found": back})


def _rows(what: str, taken: Taken) -> Iterator[Result]:
    targets = {"found": FOUND_TARGET_SECONDS, "repaired": REPAIRED_TARGET_SECONDS}
    for step, seconds in taken.items():
        told = step if len(taken) > 1 else "found and repaired"
        for name, percent in (("p50", 50), ("p99", 99)):
            yield Result(
                metric=f"{what}, {told}, {name}",
                value=percentile(seconds, percent),
                unit="s",
                target=targets[step],
            )


def _moments() -> Iterator[float]:
    chance = random.Random(ROUNDS)
    return (chance.uniform(0, TURN_SECONDS) for _ in range(ROUNDS))


def _repaired(status: pb.StatusResponse, kind: str) -> int:
    return sum(count.repaired for count in status.drift.counts if count.kind == kind)


def _delete_an_entry(pins: Path) -> None:
    with closing(libbpf.open_map(pins / "control")) as control:
        word = abi.Control.from_buffer_copy(libbpf.lookup(control, _FIRST) or b"")
    with closing(libbpf.open_map(pins / "class_of")) as outer:
        held = libbpf.lookup(outer, word.active.to_bytes(4, "little"))
    with closing(libbpf.open_inner(int.from_bytes(held or b"", "little"), "class_of")) as target:
        libbpf.delete(target, next(libbpf.entries_of(target))[0])


def _replace_a_pin(pins: Path) -> None:
    (pins / "counters").unlink()
    other = libbpf.create_map(
        libbpf.MapType.HASH, "other", key_bytes=16, value_bytes=4, max_entries=1
    )
    with closing(other):
        libbpf.pin(other.fd, pins / "counters")


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError("what was changed is not put back")
        time.sleep(POLL_SECONDS)
