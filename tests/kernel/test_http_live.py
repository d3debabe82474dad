"""HTTP policies from the push server to the wire: two agents, an Envoy each, pods on both nodes.

node-a: frontend ══════════ node-b: api-gateway :80, prometheus
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from demo.workload_commands import serve_command, stream_command, target
from nodeagent.local_api_client import open_agent
from tests.support.http_scene import HttpScene, http_scene
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

GATEWAY, PROMETHEUS = ECOMMERCE.pod("api-gateway"), ECOMMERCE.pod("prometheus")


@pytest.fixture(scope="module")
def scene() -> Iterator[HttpScene]:
    with http_scene(ECOMMERCE) as made:
        for pod in (GATEWAY, PROMETHEUS):
            made.world.start(f"serve {pod.name}", pod.name, serve_command(pod))
        made.world.wait_for(
            "the servers listen", lambda: all(map(made.listens, (GATEWAY, PROMETHEUS)))
        )
        yield made


REQUESTS = (("GET", "/products"), ("POST", "/products"), ("GET", "/metrics"))


def test_requests_into_a_pod_are_judged_from_both_nodes_and_from_the_host(scene: HttpScene) -> None:
    scene.enforce("http")
    for address in GATEWAY.addresses:
        for place in ("frontend", "prometheus", GATEWAY.node.name):
            assert scene.ask(place, address, *REQUESTS) == [200, 403, 403], (place, address)


def test_a_pods_own_requests_are_judged_on_their_way_out_to_another_node(scene: HttpScene) -> None:
    scene.enforce("http-out")
    for address in GATEWAY.addresses:
        asked = (("GET", "/products"), ("GET", "/metrics"))
        assert scene.ask("frontend", address, *asked) == [200, 403]
        assert scene.ask("prometheus", address, *asked) == [200, 200]


def test_what_is_refused_is_told_with_its_request_and_its_policy(scene: HttpScene) -> None:
    scene.enforce("http")
    assert scene.ask("prometheus", GATEWAY.v4, ("POST", "/products/told")) == [403]
    scene.world.wait_for("the request is told", lambda: bool(_told(scene, "/products/told")))
    (flow,) = _told(scene, "/products/told")
    assert flow["source"]["pod_name"] == "prometheus"
    assert flow["verdict"] == "DROPPED"
    assert flow["l7"]["http"]["method"] == "POST"
    assert "web-ingress" in json.dumps(flow)


def _told(scene: HttpScene, path: str) -> list[dict[str, Any]]:
    return [flow for flow in scene.agents.drops(GATEWAY.node.name) if path in json.dumps(flow)]


LIMITED = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: at-most-three, namespace: e-commerce}
spec:
  endpointSelector: {matchLabels: {app: api-gateway}}
  ingress:
    - toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules:
            http: [{method: GET, path: "/products.*", rateLimit: {requests: 3, per: 1h}}]
"""


def test_requests_beyond_a_limit_are_answered_429_and_told(scene: HttpScene) -> None:
    scene.enforce(LIMITED)
    asked = [("GET", "/products/limited")] * 5
    assert scene.ask("prometheus", GATEWAY.v4, *asked) == [200, 200, 200, 429, 429]
    told: list[dict[str, Any]] = []

    def both_are_told() -> bool:
        told[:] = _told(scene, "/products/limited")
        return len(told) == 2

    scene.world.wait_for("what went beyond is told", both_are_told, timeout=30)
    for flow in told:
        assert (flow["verdict"], flow["drop_reason_desc"]) == ("DROPPED", "DROP_RATE_LIMITED")
        assert flow["ingress_denied_by"][0]["name"] == "at-most-three"


STALL_SECONDS = 10.0
"""A busy machine may hold up an answer; a connection that is cut is told at once."""
PATIENCE_SECONDS = 60.0


def test_rules_change_under_a_connection_that_stays(scene: HttpScene, tmp_path: Path) -> None:
    scene.enforce("http")
    log = tmp_path / "stream.jsonl"
    command = stream_command(target(GATEWAY, GATEWAY.v4), log=log, timeout=STALL_SECONDS)
    scene.world.start("stream", "frontend", command)
    scene.world.wait_for("requests pass", lambda: _asked(log) > 10)
    ports = _ports(scene)
    for stable in ("http-more", "http", "http-more", "http"):
        before = _asked(log)
        scene.enforce(stable)
        scene.world.wait_for(
            "requests go on",
            lambda before=before: _asked(log) > before + 10,
            timeout=PATIENCE_SECONDS,
        )
        assert _ports(scene) == ports
    scene.world.wait_for("the connection is counted", lambda: _connections(scene) > 0)
    scene.world.stop("stream")
    assert all("answered" in line for line in log.read_text().splitlines())


def _connections(scene: HttpScene) -> int:
    told = scene.agents.ask_json(GATEWAY.node.name, "status")["proxy"]
    assert told["listeners"]
    return int(told["connections"])


def _asked(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def _ports(scene: HttpScene) -> set[int]:
    rows = scene.agents.ask_json(GATEWAY.node.name, "bpf", "policy", "get")
    return {row["proxy_port"] for row in rows if row["verdict"] == "redirect"}


def test_a_rule_of_the_proxys_device_that_is_gone_comes_back_and_is_counted(
    scene: HttpScene,
) -> None:
    node = GATEWAY.node.name
    command = ["ip", "-n", scene.world.namespace(node), "rule", "del", "priority", "510"]
    subprocess.run(command, check=True)

    def times_mended() -> int:
        with open_agent(scene.world.directory / f"{node}.sock") as agent:
            counts = agent.status().drift.counts
        return sum(count.repaired for count in counts if count.kind == "proxy-device")

    scene.world.wait_for("the rule is counted", lambda: times_mended() >= 1, timeout=30)


def test_a_killed_envoy_is_back_soon_and_nothing_passed_meanwhile(scene: HttpScene) -> None:
    scene.enforce("http")
    killed = scene.envoy(GATEWAY.node.name)
    os.kill(killed, signal.SIGKILL)
    answers = []

    def is_back() -> bool:
        asked = (("GET", "/products"), ("GET", "/metrics"))
        answers.extend(scene.ask("prometheus", GATEWAY.v4, *asked))
        return answers[-2:] == [200, 403]

    scene.world.wait_for("Envoy is back", is_back, timeout=30)
    assert 200 not in answers[1::2], "no request that is refused got through"
    told = scene.agents.ask_json(GATEWAY.node.name, "status")["proxy"]
    assert (told["state"], told["restarts"]) == ("up", 1)
    assert told["pid"] == scene.envoy(GATEWAY.node.name) != killed
    assert "restarted 1 times" in scene.agents.ask(GATEWAY.node.name, "status")


def test_without_an_envoy_flows_to_it_are_dropped_and_no_others(scene: HttpScene) -> None:
    """The agent is held still, so that nobody starts one for as long as is looked."""
    scene.enforce("http")
    node = GATEWAY.node.name
    killed, agent = scene.envoy(node), scene.world.process(node)
    agent.send_signal(signal.SIGSTOP)
    try:
        os.kill(killed, signal.SIGKILL)
        for place, address in product(("frontend", "prometheus"), GATEWAY.addresses):
            assert scene.ask(place, address, *REQUESTS[:2], seconds=0.5) == ["TimeoutError"] * 2
        assert scene.ask("frontend", PROMETHEUS.v4, ("GET", "/"), seconds=20.0) == [200]
    finally:
        agent.send_signal(signal.SIGCONT)
    scene.world.wait_for(
        "Envoy is back",
        lambda: scene.ask("frontend", GATEWAY.v4, *REQUESTS) == [200, 403, 403],
        timeout=PATIENCE_SECONDS,
    )
    assert scene.envoy(node) != killed


def test_a_killed_agent_leaves_envoy_at_work_and_its_successor_adopts_it(scene: HttpScene) -> None:
    node = GATEWAY.node.name
    scene.enforce("http")
    envoy = scene.envoy(node)
    before = scene.agents.ask_json(node, "status")["datapath_revision"]
    scene.world.kill(node)
    assert scene.ask("frontend", GATEWAY.v4, *REQUESTS) == [200, 403, 403]
    scene.agents.start(node)
    assert scene.envoy(node) == envoy
    assert scene.agents.ask_json(node, "status")["datapath_revision"] == before
    assert scene.ask("frontend", GATEWAY.v4, *REQUESTS) == [200, 403, 403]
