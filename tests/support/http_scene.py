"""Agents that run an Envoy each, and a push server that tells them what to enforce.

In:   a Topology; what else their configuration says
Out:  HttpScene: policies put in force, requests of pods, the nodes' Envoys
Shell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from demo.layout import LISTEN, SERVER_NAME
from reconciler.sign.certificates import add_node, init_certificates
from reconciler.sign.keys import init_keys, trusted_root
from tests.support.live_agents import Agents
from tests.support.world import World
from tests.support.world_topology import CONTROL, Topology, WorldPod

ASK = """\
import http.client, json, sys
found = []
for address, method, path in json.loads(sys.argv[1]):
    try:
        connection = http.client.HTTPConnection(address, 80, timeout=float(sys.argv[2]))
        connection.request(method, path)
        found.append(connection.getresponse().status)
    except OSError as error:
        found.append(type(error).__name__)
print(json.dumps(found))
"""


@dataclass
class HttpScene:
    """The agents and their push server. A policy is a name of `tests.support.push_program`, or a text."""

    agents: Agents
    folder: Path
    nodes: tuple[str, ...]
    sequence: int = 0

    @property
    def world(self) -> World:
        return self.agents.world

    def enforce(self, stable: str) -> None:
        """Publish, and wait until every node has it in force."""
        self.publish(stable)
        self.world.wait_for(
            f"{stable[:40]} is in force", lambda: self._acks() == len(self.nodes), timeout=40
        )

    def publish(self, stable: str) -> None:
        """Publish."""
        self.sequence += 1
        wanted = {"sequence": self.sequence, "stable": stable, "candidate": None, "percent": 0,
                  "confirm": 0}  # fmt: skip
        beside = self.folder / "wanted.new"
        beside.write_text(json.dumps(wanted))
        beside.replace(self.folder / "wanted.json")

    def _acks(self) -> int:
        path = self.folder / "heard.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        said = [json.loads(line) for line in lines]
        acks = [s for s in said if s["kind"] == "ack" and s["sequence"] == self.sequence]
        assert not [one["error"] for one in acks if one["error"]]
        return len(acks)

    def ask(
        self, place: str, address: str, *asked: tuple[str, str], seconds: float = 5.0
    ) -> list[Any]:
        """The statuses of requests (method and path) to port 80, a connection each.

        In place of a status the error's name; TimeoutError if nothing came within the seconds.
        """
        asks = json.dumps([(address, method, path) for method, path in asked])
        answer: list[Any] = json.loads(
            self.world.run(place, [sys.executable, "-c", ASK, asks, str(seconds)]).stdout
        )
        return answer

    def listens(self, pod: WorldPod) -> bool:
        """True if the pod's server has its port."""
        return bool(self.world.run(pod.name, ["ss", "-Hltn", f"sport = :{pod.port}"]).stdout)

    def envoy(self, node: str) -> int:
        """The process of a node's Envoy."""
        folder = self.world.directory / "state" / node / "envoy"
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(folder / "bootstrap.json").encode() in words:
                    return int(entry.name)
        raise ProcessLookupError(f"{node} has no Envoy")


@contextmanager
def http_scene(
    topology: Topology, *, nodes: tuple[str, ...] = (), **envoy: Any
) -> Iterator[HttpScene]:
    """Everything runs, and nothing is forbidden.

    `nodes`: those that have an agent, if not all; `envoy`: more of that section of agent.yaml.
    """
    with World(topology) as world:
        keys = world.directory / "keys"
        now = datetime.now(UTC)
        init_keys(keys, now=now)
        init_certificates(keys, server_names=(SERVER_NAME,), now=now)
        agents = Agents(world)
        folder = world.directory / "push"
        folder.mkdir()
        made = HttpScene(agents, folder, nodes or tuple(node.name for node in topology.nodes))
        made.publish("open")
        for node in made.nodes:
            add_node(keys, node, root=trusted_root(keys), now=now)
            _join(agents, keys, node, {"workers": 1, **envoy})
        python = [sys.executable, "-m", "tests.support.push_program"]
        world.start("push", CONTROL, [*python, str(keys), LISTEN, str(folder)])
        for node in made.nodes:
            agents.start(node)
        try:
            yield made
        finally:
            for node in made.nodes:
                world.stop(node)
                agents.ask(node, "detach", "--yes")


def _join(agents: Agents, keys: Path, node: str, envoy: Mapping[str, Any]) -> None:
    given = keys / "nodes" / node
    document = yaml.safe_load(agents.config(node).read_text())
    document |= {
        "reconciler": {"address": LISTEN, "server_name": SERVER_NAME},
        "tls": {
            "ca": str(given / "ca.pem"),
            "certificate": str(given / "node.pem"),
            "key": str(given / "node.key"),
        },
        "trust": {"root": str(given / "root.json")},
        "envoy": dict(envoy),
    }
    agents.config(node).write_text(yaml.safe_dump(document))
