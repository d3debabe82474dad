"""Envoy in a container beside the agent's: neither's end is the other's, and nothing passes unjudged.

node-a: frontend ══════════ node-b: api-gateway :80, the agent ┊ its Envoy
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.workload_commands import serve_command, stream_command, target
from tests.support.http_scene import HttpScene, http_scene
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

GATEWAY = ECOMMERCE.pod("api-gateway")
NODE = GATEWAY.node.name
PROXY = "proxy"
REQUESTS = (("GET", "/products"), ("POST", "/products"))
JUDGED = [200, 403]
PATIENCE_SECONDS = 60.0
STALL_SECONDS = 10.0
"""A busy machine may hold up an answer; a connection that is cut is told at once."""
CONTAINER = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
             "setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin"]  # fmt: skip
"""Processes and capabilities as the chart's container has them."""


def start_proxy(scene: HttpScene) -> None:
    program = [sys.executable, "-m", "nodeagent.cli", "proxy"]
    config = ["--config", str(scene.agents.config(NODE))]
    scene.world.start(PROXY, NODE, [*CONTAINER, *program, *config])


@pytest.fixture(scope="module")
def scene() -> Iterator[HttpScene]:
    with http_scene(ECOMMERCE, nodes=(NODE,), apart=True) as made:
        made.world.start("serve", GATEWAY.name, serve_command(GATEWAY))
        made.world.wait_for("the server listens", lambda: made.listens(GATEWAY))
        start_proxy(made)
        made.world.wait_for(
            "Envoy is seen", lambda: told(made)["state"] == "up", timeout=PATIENCE_SECONDS
        )
        made.enforce("http")
        yield made


def told(scene: HttpScene) -> dict[str, Any]:
    """What the agent says of its proxy."""
    found: dict[str, Any] = scene.agents.ask_json(NODE, "status")["proxy"]
    return found


def ask(scene: HttpScene) -> list[Any]:
    return scene.ask("frontend", GATEWAY.v4, *REQUESTS)


def is_back(scene: HttpScene, restarts: int) -> None:
    """Judged as before, by another Envoy; until then, what is refused did not pass."""
    answers: list[list[Any]] = []

    def judges() -> bool:
        answers.append(ask(scene))
        return answers[-1] == JUDGED

    scene.world.wait_for("Envoy is back", judges, timeout=PATIENCE_SECONDS)
    assert 200 not in [answer[1] for answer in answers]
    scene.world.wait_for(
        "the agent knows", lambda: told(scene)["restarts"] == restarts, timeout=PATIENCE_SECONDS
    )


def test_envoy_goes_on_while_the_agent_is_killed_and_comes_back(
    scene: HttpScene, tmp_path: Path
) -> None:
    assert ask(scene) == JUDGED
    envoy, log = scene.envoy(NODE), tmp_path / "stream.jsonl"
    command = stream_command(target(GATEWAY, GATEWAY.v4), log=log, timeout=STALL_SECONDS)
    scene.world.start("stream", "frontend", command)
    requests_go_on(scene, log)
    scene.world.kill(NODE)
    requests_go_on(scene, log)
    scene.agents.start(NODE)
    scene.world.wait_for(
        "it sees Envoy", lambda: told(scene)["state"] == "up", timeout=PATIENCE_SECONDS
    )
    scene.enforce("http-more")
    requests_go_on(scene, log)
    scene.world.stop("stream")
    assert all("answered" in line for line in log.read_text().splitlines())
    assert scene.envoy(NODE) == envoy
    scene.enforce("http")


def requests_go_on(scene: HttpScene, log: Path) -> None:
    def asked() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    before = asked()
    scene.world.wait_for("requests go on", lambda: asked() > before + 10, timeout=PATIENCE_SECONDS)


def test_a_killed_envoy_is_started_again_beside_the_agent(scene: HttpScene) -> None:
    before = told(scene)["restarts"]
    os.kill(scene.envoy(NODE), signal.SIGKILL)
    is_back(scene, before + 1)


def test_a_container_that_ends_lets_nothing_pass_until_the_next_one(scene: HttpScene) -> None:
    before = told(scene)["restarts"]
    scene.world.kill(PROXY)
    scene.world.wait_for(
        "the agent says so", lambda: told(scene)["state"] == "down", timeout=PATIENCE_SECONDS
    )
    assert 200 not in ask(scene)
    start_proxy(scene)
    is_back(scene, before + 1)
