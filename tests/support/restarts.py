"""Kill, restart and upgrade an agent while packets pass that may, and none that may not.

    python -m tests.support.restarts --restarts 200 --swaps 10 --layouts 4

In:   how often
Out:  Report: what became of every packet, as a table and in build/bench/restarts.json; exit status 1 if one
      was lost, or passed that may not, or if none was sent
Shell: a world of its own, with a real agent on node-a, under a signed policy that it finds in its store.

A *swap* starts an agent with the programs compiled under another digest; a *layout* change, with another
TG_ABI_VERSION and maps of other sizes, so that nothing but the flows can be taken over.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Final

import yaml
from rich.console import Console
from rich.table import Table

from netpolicy.bundle import pack_unit
from netpolicy.labels import Selector
from netpolicy.rules import (
    Action,
    Direction,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
    Unit,
)
from nodeagent.datapath import abi_numbers
from nodeagent.receive import BundleStore
from nodeagent.receive.store import StoredBundle
from tests.support import steady_traffic
from tests.support.live_agents import Agents
from tests.support.push_fleet import make_keys, publish
from tests.support.steady_traffic import Counts
from tests.support.world import PROJECT, World
from tests.support.world_topology import ECOMMERCE, WorldPod

FRONTEND, DATABASE, GATEWAY = map(ECOMMERCE.pod, ("frontend", "products-db", "api-gateway"))
NODE: Final = FRONTEND.node.name
ENDS: Final = {"far": (FRONTEND, GATEWAY), "near": (DATABASE, FRONTEND)}
"""Server and client. The near ones are on one node, and what TCP they speak is delivered directly."""
KILLED_AFTER_SECONDS: Final = (0.4, 0.6, 0.8, 1.0, 1.3)
"""Some kills come before an agent is ready, some after: at any point of its start."""
OTHER_SLOTS: Final = 10
PROGRESS_ROUNDS: Final = 10
REPORT: Final = PROJECT / "build" / "bench" / "restarts.json"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was done, and what became of the packets, as both ends counted."""

    restarts: int
    swaps: int
    layouts: int
    seconds: float
    client: Counts
    server: Counts
    near_client: Counts
    """Its part of the clients' counts."""

    @property
    def lost(self) -> int:
        """Allowed packets that did not come back, and segments that had to be sent again."""
        return (
            (self.client.sent - self.client.answered)
            + (self.client.stream_sent - self.client.stream_answered)
            + self.client.retransmitted
            + self.server.retransmitted
        )

    @property
    def passed(self) -> int:
        """Forbidden packets that arrived."""
        return self.client.forbidden_received + self.server.forbidden_received

    @property
    def ok(self) -> bool:
        """True if packets of each kind were sent, and became what they should."""
        forbidden = (self.client.forbidden_sent, self.server.forbidden_sent)
        sent = (self.client.sent, self.client.stream_sent, *forbidden)
        return all(sent) and not self.lost and not self.passed


class Restarts:
    """A world with traffic, and an agent to be killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.agents = Agents(world, direct_delivery=True)
        self._objects = self._make_objects()
        self._configure(next(self._objects))
        self.agents.start(NODE)
        self._start_traffic()

    def restart(self, after_seconds: float) -> None:
        """Kill the agent, start another, and give it so long."""
        self.world.kill(NODE)
        self._start(layout=0)
        time.sleep(after_seconds)

    def swap(self, killed_after_seconds: float) -> None:
        """Kill the agent, and start one that brings other programs; kill that, too, and start another."""
        self.world.kill(NODE)
        self._configure(next(self._objects))
        self._start_twice(killed_after_seconds, layout=0)

    def change_layout(self, layout: int, killed_after_seconds: float) -> None:
        """The same with programs that want other maps; then go back."""
        for version in (layout, 0):
            self.world.kill(NODE)
            self._configure(self._other_layout() if version else next(self._objects))
            self._start_twice(killed_after_seconds, layout=version)

    def finish(self, role: str) -> dict[str, Counts]:
        """Stop the clients or the servers; what each counted."""
        found = {}
        for pair in ENDS:
            self.world.stop(f"{pair}-{role}")
            found[pair] = Counts(**json.loads(self.world.tail(f"{pair}-{role}", 1)))
        return found

    def _start_twice(self, killed_after_seconds: float, *, layout: int) -> None:
        self._start(layout=layout)
        time.sleep(killed_after_seconds)
        self.world.kill(NODE)
        self._start(layout=layout, wait=True)

    def _start(self, *, layout: int, wait: bool = False) -> None:
        environment = {"PYTHONPATH": str(self._patched(layout))} if layout else {}
        command = [sys.executable, "-m", "nodeagent.cli", "run", "--config"]
        ready = self._ready()
        self.world.start(
            NODE, NODE, [*command, str(self.agents.config(NODE))], environment=environment
        )
        if wait:
            self.world.wait_for(
                "the agent is ready", lambda: self._ready() > ready, timeout=30, program=NODE
            )

    def _ready(self) -> int:
        return self.world.log_path(NODE).read_text().count("nodeagent ready")

    def _configure(self, bpf_object: Path) -> None:
        keys = self.world.directory / "keys"
        if not keys.exists():
            self._publish(keys)
        document = yaml.safe_load(self.agents.config(NODE).read_text())
        document |= {
            "bpf_object": str(bpf_object),
            "reconciler": {"address": "127.0.0.1:9", "server_name": "localhost"},
            "tls": {
                "ca": str(keys / "nodes" / NODE / "ca.pem"),
                "certificate": str(keys / "nodes" / NODE / "node.pem"),
                "key": str(keys / "nodes" / NODE / "node.key"),
            },
            "trust": {"root": str(keys / "metadata" / "1.root.json")},
        }
        self.agents.config(NODE).write_text(yaml.safe_dump(document))

    def _publish(self, keys: Path) -> None:
        """Lay a signed publication into the agent's store, as if it had been pushed."""
        make_keys(keys, nodes=(NODE,))
        publication = publish(keys, 1, pack_unit(Unit(namespace="a", policies=(_policy(),))))
        metadata = {}
        for name, data in publication.metadata.items():
            role = name.removesuffix(".json").partition(".")[2]
            metadata[name if role in {"root", ""} else f"{role}.json"] = data
        store = BundleStore(
            self.world.directory / "state" / NODE,
            trusted_root=(keys / "metadata" / "1.root.json").read_bytes(),
        )
        store.stage(StoredBundle(metadata=metadata, units=dict(publication.units), clock_floor=0))
        store.commit()

    def _make_objects(self) -> Iterator[Path]:
        """The compiled programs under two digests, in turn."""
        original = PROJECT / "build/bpf/tidegate.bpf.o"
        other = self.world.directory / "other.bpf.o"
        other.write_bytes(original.read_bytes() + bytes(8))
        return cycle((original, other))

    def _other_layout(self) -> Path:
        """The programs compiled with another number of slots."""
        made = self.world.directory / "layout.bpf.o"
        if made.exists():
            return made
        source = self.world.directory / "bpf-source"
        shutil.copytree(PROJECT / "bpf", source)
        header = (source / "abi.h").read_text()
        slots = f"#define TG_SLOTS {abi_numbers.SLOTS} "
        assert slots in header
        (source / "abi.h").write_text(header.replace(slots, f"#define TG_SLOTS {OTHER_SLOTS} "))
        headers = f"/usr/include/{os.uname().machine}-linux-gnu"
        subprocess.run(
            ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{headers}", "-c",
             "tidegate.bpf.c", "-o", str(made)],
            cwd=source, check=True, capture_output=True,
        )  # fmt: skip
        return made

    def _patched(self, layout: int) -> Path:
        """A folder that makes the agent's mirror of the layout agree with the other object."""
        folder = self.world.directory / f"layout-{layout}"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(
            "import sys\n"
            f"sys.path.append({str(PROJECT)!r})\n"
            "from nodeagent.datapath import abi_numbers, pins\n"
            f"abi_numbers.ABI_VERSION = pins.ABI_VERSION = {abi_numbers.ABI_VERSION + layout}\n"
            f"abi_numbers.SLOTS = {OTHER_SLOTS}\n"
        )
        return folder

    def _start_traffic(self) -> None:
        for pair, (server, client) in ENDS.items():
            for role, place in (("server", server), ("client", client)):
                command = [
                    sys.executable,
                    "-m",
                    steady_traffic.__name__,
                    role,
                    server.v4,
                    client.v4,
                ]
                self.world.start(f"{pair}-{role}", place.name, command)
                self.world.wait_for(
                    f"the {pair} {role} is there",
                    partial(self._has_stream, server),
                    program=f"{pair}-{role}",
                )

    def _has_stream(self, server: WorldPod) -> bool:
        question = ["ss", "-Htan", f"sport = :{steady_traffic.STREAM_PORT}"]
        return bool(self.world.run(server.name, question).stdout)


def run(
    *,
    restarts: int,
    swaps: int,
    layouts: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Do it, spread over the restarts."""
    with World(ECOMMERCE) as world:
        scene = Restarts(world)
        started = time.monotonic()
        rounds = max(restarts, swaps, layouts)
        for number in range(rounds):
            patience = KILLED_AFTER_SECONDS[number % len(KILLED_AFTER_SECONDS)]
            if number < restarts:
                scene.restart(patience)
            if number < swaps:
                scene.swap(patience)
            if number < layouts:
                scene.change_layout(number + 1, patience)
            if (number + 1) % PROGRESS_ROUNDS == 0 or number + 1 == rounds:
                progress(f"{number + 1} of {rounds}, {time.monotonic() - started:.0f} s")
        clients, servers = (scene.finish(role) for role in ("client", "server"))
        return Report(
            restarts=restarts,
            swaps=swaps,
            layouts=layouts,
            seconds=time.monotonic() - started,
            client=total(clients.values()),
            server=total(servers.values()),
            near_client=clients["near"],
        )


def total(counts: Iterable[Counts]) -> Counts:
    """What several counted together."""
    columns = zip(*(asdict(each).values() for each in counts), strict=True)
    return Counts(*map(sum, columns))


def _policy() -> Policy:
    """Anyone reaches anyone at the two ports of the allowed traffic, and at no others."""
    ports = tuple(
        Ports(protocol=protocol, first=port, last=port)
        for protocol, port in (
            (Protocol.TCP, steady_traffic.STREAM_PORT),
            (Protocol.UDP, steady_traffic.ECHO_PORT),
        )
    )
    rules = tuple(
        Rule(direction=direction, action=Action.ALLOW, origin=direction.word, ports=ports)
        for direction in Direction
    )
    return Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace="a", name="steady"),
        subject=Selector(),
        default_deny=tuple(Direction),
        rules=rules,
    )


def show(report: Report) -> None:
    """A table of what became of the packets, and the verdict."""
    client, server, near = report.client, report.server, report.near_client
    again = client.retransmitted + server.retransmitted
    table = Table(
        title=f"{report.restarts} restarts, {report.swaps} swaps of programs, "
        f"{report.layouts} changes of layout, {report.seconds:.0f} s"
    )
    for title in ("packets", "sent", "came", "should have"):
        table.add_column(title, justify="left" if title == "packets" else "right")
    for row in (
        ("datagrams, answered", client.sent, client.answered, client.sent),
        ("… of them within the node", near.sent, near.answered, near.sent),
        (
            "bytes over TCP, answered",
            client.stream_sent,
            client.stream_answered,
            client.stream_sent,
        ),
        ("segments sent again", again, "", 0),
        ("forbidden, to the server", client.forbidden_sent, server.forbidden_received, 0),
        ("forbidden, from the server", server.forbidden_sent, client.forbidden_received, 0),
    ):
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else cell for cell in row))
    console = Console()
    console.print(table)
    verdict = "[green]as it should be" if report.ok else "[red]NOT as it should be"
    console.print(f"lost {report.lost}, passed though forbidden {report.passed}: {verdict}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.restarts")
    for what, default in (("restarts", 200), ("swaps", 10), ("layouts", 4)):
        parser.add_argument(f"--{what}", type=int, default=default)
    report = run(**vars(parser.parse_args()), progress=lambda line: print(line, flush=True))
    show(report)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    told = asdict(report) | {"lost": report.lost, "passed": report.passed, "ok": report.ok}
    REPORT.write_text(json.dumps(told, indent=2) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
