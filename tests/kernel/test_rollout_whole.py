"""A whole rollout: real Git, reconciler, agents, kernels and traffic.

frontend ── node-a ══ node-b ── api-gateway, prometheus …     what a commit would cut is caught before it does
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from demo.author import TEMPLATE, Author, Pushed
from demo.screen import Screen
from demo.services import PROGRAMS, RECONCILER, Services
from demo.stage import Stage
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

GATEWAY = "policies/e-commerce/api-gateway.yaml"
SETTINGS = """\
rollout:
  shadow: {soak: 3s}
  waves: {percent: [50], soak: 2s}
  inconclusive: 60s
  confirm: 20s
"""
HARMLESS = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-world, namespace: e-commerce}
spec:
  endpointSelector: {matchLabels: {app: products-db}}
  ingressDeny: [{fromEntities: [world]}]
"""
PATIENCE_SECONDS = 90.0


class Rollout:
    """The world under a reconciler with stages, and its author."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.services = Services(world)
        remote = self.services.start_git_server()
        self.services.make_keys()
        self.services.write_configuration(remote)
        self.author = Author(world, remote, world.directory / "author")
        self.author.take_from_template(leave_out=("tests", "tidegate.yaml"))
        self.first = self.author.publish("Begin", {"tidegate.yaml": SETTINGS})
        self.stage = Stage(world, self.services, self.author, Screen())

    def start(self) -> None:
        self.stage.start_workloads()
        self.services.start_reconciler()
        for node in self.services.nodes:
            self.services.start_agent(node)
        for node in self.services.nodes:
            self.services.wait_for_agent(node)
        self.until(self.first, "Promoted")

    def tidegate(self, *words: str) -> tuple[int, str]:
        state = ["--state-dir", str(self.services.layout.state(RECONCILER))]
        done = subprocess.run(
            [str(PROGRAMS / "tidegate"), "rollout", *words, *state],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        code, text = self.tidegate("status", "-o", "json")
        return {} if code == 2 else json.loads(text)

    def until(self, pushed: Pushed, phase: str) -> dict[str, Any]:
        def is_there() -> bool:
            found = self.status()
            return (found.get("revision"), found.get("phase")) == (pushed.commit, phase)

        self.world.wait_for(f"{pushed.subject} is {phase}", is_there, timeout=PATIENCE_SECONDS)
        return self.status()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [dict(e.fields) for e in self.services.events(RECONCILER) if e.name == name]


@pytest.fixture(scope="module")
def rollout() -> Iterator[Rollout]:
    with World(ECOMMERCE) as world:
        found = Rollout(world)
        found.start()
        yield found


def test_a_commit_that_would_cut_prometheus_is_caught_before_it_does(rollout: Rollout) -> None:
    rollout.stage.start_stream("scrape", "prometheus", "api-gateway", fresh=True)
    rollout.stage.wait_for_stream("scrape", "it is answered", lambda s: s.answered > 0)
    before = rollout.services.held()
    text = (TEMPLATE / GATEWAY).read_text().replace("app: prometheus", "app: nobody")
    bad = rollout.author.publish("Cut prometheus", {GATEWAY: text})
    status = rollout.until(bad, "Quarantined")
    (difference, *_) = status["seen"]["unexpected"]
    assert difference["from"] == "monitoring/prometheus"
    assert difference["to"] == "e-commerce/api-gateway"
    assert (difference["port"], difference["wouldBe"]) == ("tcp/80", "denied")
    assert "e-commerce/api-gateway" in difference["by"]
    assert difference["count"] > 0
    scrape = rollout.stage.stop_stream("scrape")
    assert scrape.answered > 0
    assert scrape.failed == ()
    after = rollout.services.held()
    assert {node: held.bundle for node, held in after.items()} == {
        node: held.bundle for node, held in before.items()
    }


def test_a_good_commit_is_watched_and_then_promoted_by_a_flip_of_what_was_watched(
    rollout: Rollout,
) -> None:
    rollout.stage.start_stream("scrape", "prometheus", "api-gateway", fresh=True)
    good = rollout.author.publish(
        "Mend it, and deny the world",
        {
            GATEWAY: (TEMPLATE / GATEWAY).read_text(),
            "policies/e-commerce/no-world.yaml": HARMLESS,
        },
    )
    rollout.until(good, "Promoted")
    scrape = rollout.stage.stop_stream("scrape")
    assert scrape.failed == ()
    assert rollout.events("promoted_generation_differs") == []
    held = rollout.services.held()
    assert all(one.generation == one.kernel_generation for one in held.values())
    assert len({one.bundle for one in held.values()}) == 1


def test_an_undo_gives_every_node_back_what_it_enforced(rollout: Rollout) -> None:
    code, answer = rollout.tidegate("undo", "--to", rollout.first.commit, "--reason", "a drill")
    assert (code, answer.startswith("done")) == (0, True)

    def is_back() -> bool:
        status = rollout.services.reconciler_status()
        digest = status["publication"]["digest"]
        held = rollout.services.held().values()
        return status["publication"]["revision"] == rollout.first.commit and all(
            one.bundle == digest for one in held
        )

    rollout.world.wait_for("every node is back", is_back, timeout=PATIENCE_SECONDS)
    assert "a drill" in rollout.tidegate("history")[1]
