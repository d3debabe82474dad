"""Both images at work: reconciler and agents run from their root file systems, and pods feel it.

control: reconciler's image ── node-a, node-b: agent's image, its Envoy ── frontend, api-gateway …
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.author import TEMPLATE
from tests.support.image_roots import Image, chart_capabilities
from tests.support.kube_server import KubeServer
from tests.support.own_sockets import with_own_sockets
from tests.support.whole_rollout import WholeRollout
from tests.support.world import World
from tests.support.world_topology import CONTROL, ECOMMERCE

pytestmark = [pytest.mark.images, pytest.mark.timeout(1800)]

NOBODY = 65532
ENVOYS = ["NET_ADMIN"]
"""The capabilities of Envoy's container."""
FRONTEND, GATEWAY = ECOMMERCE.pod("frontend"), ECOMMERCE.pod("api-gateway")
GATEWAY_FILE = "policies/e-commerce/api-gateway.yaml"
ASKS_ONLY = {"http": [{"method": "GET"}]}
SETTINGS = """\
rollout: {shadow: {soak: 1s}, inconclusive: 5m, gates: {minimumFlows: 0, minimumPods: 0}}
"""


class Installed:
    """A world whose Tidegate is the images'."""

    def __init__(self, world: World, images: dict[str, Image], capabilities: list[str]) -> None:
        self.world = world
        self.images = images
        self.capabilities = capabilities
        self.whole = WholeRollout(world, SETTINGS)
        self.services = self.whole.services
        for node in self.services.nodes:
            self._hand_out(node)

    def start_reconciler(self) -> None:
        """As nobody, from the reconciler's image."""
        layout = self.services.layout
        state = self._state("reconciler")
        state.mkdir(parents=True, exist_ok=True)
        for path in (layout.config, *layout.config.rglob("*"), state):
            os.chown(path, NOBODY, NOBODY)
        shared = [layout.config, state, self.world.inventory_path.parent]
        config = str(layout.config_file("reconciler"))
        self.world.start(
            "reconciler",
            CONTROL,
            self.images["reconciler"].started(
                "tidegate", "run", "--config", config, user=NOBODY, own_network=False, shared=shared
            ),
        )

    def start_agent(self, node: str) -> None:
        """As root with the chart's capabilities, from the agent's image; Envoy beside it, with its own."""
        command = self._inside(node, "run", capabilities=self.capabilities)
        self.world.start(node, node, with_own_sockets(self.world, node, command))
        self.world.start(f"{node}-envoy", node, self._inside(node, "proxy", capabilities=ENVOYS))

    def status(self, node: str) -> dict[str, Any]:
        """What the image's own `nodeagent status` says."""
        done = self.world.run(node, self._inside(node, "status", "-o", "json"))
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def answer(self, place: str, method: str) -> str:
        """The status that the gateway is answered with; 000: none."""
        asked = ["curl", "--silent", "--output", os.devnull, "--max-time", "2", "--request", method,
                 "--write-out", "%{http_code}", f"http://{GATEWAY.v4}/"]  # fmt: skip
        return self.world.run(place, asked, check=False).stdout

    def _hand_out(self, node: str) -> None:
        """What the node's agent reads, in a folder of its own: root without capabilities is nobody else's."""
        layout, own = self.services.layout, self._state(node)
        shutil.copytree(layout.keys / "nodes" / node, own / "given")
        text = layout.config_file(node).read_text()
        document = yaml.safe_load(
            text.replace(str(layout.keys / "nodes" / node), str(own / "given"))
        )
        del document["bpf_object"]  # the image has its own
        document |= {"envoy": {"apart": True}, "socket": str(own / "agent.sock")}
        (own / "agent.yaml").write_text(yaml.safe_dump(document))

    def _state(self, place: str) -> Path:
        return self.services.layout.state(place)

    def _inside(self, node: str, *words: str, capabilities: list[str] | None = None) -> list[str]:
        shared = [self._state(node), self.world.bpffs, self.world.inventory_path.parent]
        config = ("--config", str(self._state(node) / "agent.yaml"))
        return self.images["nodeagent"].started(
            "nodeagent", *words, *config,
            capabilities=capabilities or [], own_network=False, shared=shared,
        )  # fmt: skip


@pytest.fixture(scope="module")
def installed(images: dict[str, Image], server: KubeServer) -> Iterator[Installed]:
    with World(ECOMMERCE) as world:
        found = Installed(world, images, chart_capabilities(server))
        found.whole.stage.start_workloads()
        found.start_reconciler()
        for node in found.services.nodes:
            found.start_agent(node)
        found.whole.until(found.whole.first, "Promoted")
        yield found


def test_a_commit_goes_from_git_to_the_kernel(installed: Installed) -> None:
    published = installed.services.reconciler_status()["publication"]
    assert published["revision"] == installed.whole.first.commit
    for node in installed.services.nodes:
        status = installed.status(node)
        assert status["kernel_agrees"]
        assert status["bundle_digest"] == published["digest"]
    assert installed.answer("frontend", "GET") == "200"
    assert installed.answer("stranger", "GET") == "000"


def test_the_agents_image_brings_an_envoy_that_judges_requests(installed: Installed) -> None:
    policy = yaml.safe_load((TEMPLATE / GATEWAY_FILE).read_text())
    policy["spec"]["ingress"][0]["toPorts"][0]["rules"] = ASKS_ONLY
    pushed = installed.whole.author.publish("Only ask", {GATEWAY_FILE: yaml.safe_dump(policy)})
    installed.whole.until(pushed, "Promoted")
    wait_for = installed.world.wait_for
    wait_for(
        "a question is answered", lambda: installed.answer("frontend", "GET") == "200", timeout=30
    )
    wait_for(
        "another is refused", lambda: installed.answer("frontend", "POST") == "403", timeout=30
    )


@pytest.mark.parametrize("command", [["ssh-keygen", "-?"], ["gpgv", "--version"]])
def test_what_the_reconciler_calls_is_in_its_image(
    images: dict[str, Image], command: list[str]
) -> None:
    asked = images["reconciler"].started(*command, user=NOBODY)
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert "usage: ssh-keygen" in done.stderr or "gpgv (GnuPG)" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "command", [["nft", "--version"], ["wg", "--version"], ["wireguard-go", "--version"]]
)
def test_what_the_agent_calls_is_in_its_image(images: dict[str, Image], command: list[str]) -> None:
    done = subprocess.run(images["nodeagent"].started(*command), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_windows_of_rollouts_know_the_time_zones(images: dict[str, Image]) -> None:
    asked = "from zoneinfo import ZoneInfo; print(ZoneInfo('Europe/Berlin').key)"
    command = images["reconciler"].started("python3", "-c", asked, user=NOBODY)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "Europe/Berlin\n", done.stderr
