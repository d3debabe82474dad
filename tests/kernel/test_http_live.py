"""HTTP policies from the push server to the wire: two agents, an Envoy each, pods on both nodes.

node-a: frontend ══════════ node-b: api-gateway :80, prometheus
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.layout import LISTEN, SERVER_NAME
from demo.workload_commands import serve_command, stream_command, target
from reconciler.sign.certificates import add_node, init_certificates
from reconciler.sign.keys import init_keys, trusted_root
from tests.support.live_agents import Agents
from tests.support.world import World
from tests.support.world_topology import CONTROL, ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NODES = tuple(node.name for node in ECOMMERCE.nodes)
GATEWAY, FRONTEND = ECOMMERCE.pod("api-gateway"), ECOMMERCE.pod("frontend")
PROMETHEUS = ECOMMERCE.pod("prometheus")
ASK = """\
import http.client, json, sys
found = []
for address, method, path in json.loads(sys.argv[1]):
    try:
        connection = http.client.HTTPConnection(address, 80, timeout=2)
        connection.request(method, path)
        found.append(connection.getresponse().status)
    except OSError as error:
        found.append(type(error).__name__)
print(json.dumps(found))
"""


@dataclass
class Scene:
    """Both agents and their push server."""

    agents: Agents
    folder: Path
    sequence: int = 0

    @property
    def world(self) -> World:
        return self.agents.world

    def enforce(self, stable: str) -> None:
        """Publish, and wait until both nodes have it in force."""
        self.sequence += 1
        wanted = {"sequence": self.sequence, "stable": stable, "candidate": None, "percent": 0,
                  "confirm": 0}  # fmt: skip
        beside = self.folder / "wanted.new"
        beside.write_text(json.dumps(wanted))
        beside.replace(self.folder / "wanted.json")
        self.world.wait_for(f"{stable} is in force", lambda: self._acks() == len(NODES), timeout=40)

    def _acks(self) -> int:
        path = self.folder / "heard.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        said = [json.loads(line) for line in lines]
        acks = [s for s in said if s["kind"] == "ack" and s["sequence"] == self.sequence]
        assert not [one["error"] for one in acks if one["error"]]
        return len(acks)

    def ask(self, place: str, *asked: tuple[str, str], address: str = GATEWAY.v4) -> list[Any]:
        """The statuses of requests (method and path) to the gateway, a connection each."""
        asks = json.dumps([(address, method, path) for method, path in asked])
        answer: list[Any] = json.loads(
            self.world.run(place, [sys.executable, "-c", ASK, asks]).stdout
        )
        return answer

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


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with World(ECOMMERCE) as world:
        keys = world.directory / "keys"
        now = datetime.now(UTC)
        init_keys(keys, now=now)
        init_certificates(keys, server_names=(SERVER_NAME,), now=now)
        world.start("serve", GATEWAY.name, serve_command(GATEWAY))
        agents = Agents(world)
        folder = world.directory / "push"
        folder.mkdir()
        made = Scene(agents, folder)
        (folder / "wanted.json").write_text(
            json.dumps({"sequence": 1, "stable": "open", "candidate": None, "percent": 0,
                        "confirm": 0})
        )  # fmt: skip
        made.sequence = 1
        for node in NODES:
            add_node(keys, node, root=trusted_root(keys), now=now)
            _join(agents, keys, node)
        python = [sys.executable, "-m", "tests.support.push_program"]
        world.start("push", CONTROL, [*python, str(keys), LISTEN, str(folder)])
        for node in NODES:
            agents.start(node)
        try:
            yield made
        finally:
            for node in NODES:
                world.stop(node)
                agents.ask(node, "detach", "--yes")


def _join(agents: Agents, keys: Path, node: str) -> None:
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
        "envoy": {"workers": 1},
    }
    agents.config(node).write_text(yaml.safe_dump(document))


REQUESTS = (("GET", "/products"), ("POST", "/products"), ("GET", "/metrics"))


def test_requests_into_a_pod_are_judged_from_both_nodes_and_from_the_host(scene: Scene) -> None:
    scene.enforce("http")
    for address in GATEWAY.addresses:
        for place in ("frontend", "prometheus", GATEWAY.node.name):
            assert scene.ask(place, *REQUESTS, address=address) == [200, 403, 403], (place, address)


def test_a_pods_own_requests_are_judged_on_their_way_out_to_another_node(scene: Scene) -> None:
    scene.enforce("http-out")
    for address in GATEWAY.addresses:
        asked = (("GET", "/products"), ("GET", "/metrics"))
        assert scene.ask("frontend", *asked, address=address) == [200, 403]
        assert scene.ask("prometheus", *asked, address=address) == [200, 200]


def test_what_is_refused_is_told_with_its_request_and_its_policy(scene: Scene) -> None:
    scene.enforce("http")
    assert scene.ask("prometheus", ("POST", "/products/told")) == [403]
    scene.world.wait_for("the request is told", lambda: bool(_told(scene, "/products/told")))
    (flow,) = _told(scene, "/products/told")
    assert flow["source"]["pod_name"] == "prometheus"
    assert flow["verdict"] == "DROPPED"
    assert flow["l7"]["http"]["method"] == "POST"
    assert "web-ingress" in json.dumps(flow)


def _told(scene: Scene, path: str) -> list[dict[str, Any]]:
    return [flow for flow in scene.agents.drops(GATEWAY.node.name) if path in json.dumps(flow)]


def test_rules_change_under_a_connection_that_stays(scene: Scene, tmp_path: Path) -> None:
    scene.enforce("http")
    log = tmp_path / "stream.jsonl"
    scene.world.start("stream", "frontend", stream_command(target(GATEWAY, GATEWAY.v4), log=log))
    scene.world.wait_for("requests pass", lambda: _asked(log) > 10)
    ports = _ports(scene)
    for stable in ("http-more", "http", "http-more", "http"):
        before = _asked(log)
        scene.enforce(stable)
        scene.world.wait_for("requests go on", lambda before=before: _asked(log) > before + 10)
        assert _ports(scene) == ports
    scene.world.stop("stream")
    assert all("answered" in line for line in log.read_text().splitlines())


def _asked(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def _ports(scene: Scene) -> set[int]:
    rows = scene.agents.ask_json(GATEWAY.node.name, "bpf", "policy", "get")
    return {row["proxy_port"] for row in rows if row["verdict"] == "redirect"}


def test_a_killed_envoy_is_back_soon_and_nothing_passed_meanwhile(scene: Scene) -> None:
    scene.enforce("http")
    killed = scene.envoy(GATEWAY.node.name)
    os.kill(killed, signal.SIGKILL)
    answers = []

    def is_back() -> bool:
        answers.extend(scene.ask("prometheus", ("GET", "/products"), ("GET", "/metrics")))
        return answers[-2:] == [200, 403]

    scene.world.wait_for("Envoy is back", is_back, timeout=10)
    assert 200 not in answers[1::2], "no request that is refused got through"
    assert scene.envoy(GATEWAY.node.name) != killed


def test_a_killed_agent_leaves_envoy_at_work_and_its_successor_adopts_it(scene: Scene) -> None:
    node = GATEWAY.node.name
    scene.enforce("http")
    envoy = scene.envoy(node)
    before = scene.agents.ask_json(node, "status")["datapath_revision"]
    scene.world.kill(node)
    assert scene.ask("frontend", *REQUESTS) == [200, 403, 403]
    scene.agents.start(node)
    assert scene.envoy(node) == envoy
    assert scene.agents.ask_json(node, "status")["datapath_revision"] == before
    assert scene.ask("frontend", *REQUESTS) == [200, 403, 403]
