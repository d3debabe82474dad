"""A live agent, a real push server: a candidate is watched, promoted, taken back; a lethal one undone.

    control (push server) ══ management ══ node-a (agent) ── frontend, products-db

The management link is listed as a pod's interface, so that the agent's own way to its reconciler
crosses an interface under policy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.layout import LISTEN, SERVER_NAME
from demo.outcome import Outcome, Probe
from demo.workload_commands import probe_command, serve_command, target
from nodeagent.datapath import Control, Datapath, DatapathConfig
from nodeagent.planner import PLAN_APPLIED
from nodeagent.receive.installer import FLIP_TAKEN_BACK
from reconciler.sign.certificates import add_node, init_certificates
from reconciler.sign.keys import init_keys, trusted_root
from tests.support.live_agents import Agents
from tests.support.push_program import COMMIT_OF
from tests.support.world import PROJECT, World
from tests.support.world_topology import CONTROL, CONTROL_ADDRESS, ECOMMERCE, MANAGEMENT_LINK

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NODE = ECOMMERCE.pod("products-db").node
FRONTEND, DATABASE = ECOMMERCE.pod("frontend"), ECOMMERCE.pod("products-db")
CONFIRM = 2
SERVER = "push"
NEW_PORT = 6099
"""Nobody serves it: what arrives there is refused by the host, at once."""


@dataclass
class Scene:
    """One agent and its push server in a world."""

    agents: Agents
    folder: Path
    sequence: int = 0

    @property
    def world(self) -> World:
        return self.agents.world

    def publish(
        self, stable: str, *, candidate: str = "", percent: int = 0, confirm: int = 0
    ) -> int:
        """Ask the push server for a publication; its sequence."""
        self.sequence += 1
        wanted = {
            "sequence": self.sequence,
            "stable": stable,
            "candidate": candidate or None,
            "percent": percent,
            "confirm": confirm,
        }
        beside = self.folder / "wanted.new"
        beside.write_text(json.dumps(wanted))
        beside.replace(self.folder / "wanted.json")
        return self.sequence

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """What the agent said."""
        path = self.folder / "heard.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [said for line in lines if (said := json.loads(line))["kind"] == kind]

    def acked(self, sequence: int) -> dict[str, Any]:
        """Wait for the publication to be in force; the answer that says so."""
        found: list[dict[str, Any]] = []

        def is_acked() -> bool:
            found[:] = [a for a in self.heard("ack") if a["sequence"] == sequence]
            return bool(found) and not found[-1]["error"]

        self.world.wait_for(f"publication {sequence} is enforced", is_acked, timeout=40)
        return found[-1]

    def outcome(self, *, port: int = DATABASE.port) -> Outcome:
        """What frontend meets when it talks to the database."""
        command = probe_command([target(replace(DATABASE, port=port), DATABASE.v4)])
        (line,) = self.world.run("frontend", command).stdout.splitlines()
        return Probe.decode(line).outcome

    def status(self) -> dict[str, Any]:
        """The agent's own word."""
        found: dict[str, Any] = self.agents.ask_json(NODE.name, "status")
        return found

    def control(self) -> Control:
        """The control word, read beside the agent."""
        config = DatapathConfig(
            bpffs=self.world.bpffs / NODE.name, object_path=PROJECT / "build/bpf/tidegate.bpf.o"
        )
        datapath = Datapath.open(config)
        try:
            return datapath.control()
        finally:
            datapath.close()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with World(ECOMMERCE) as world:
        _list_the_management_link(world)
        keys = world.directory / "keys"
        _make_keys(keys)
        world.start("serve", DATABASE.name, serve_command(DATABASE))
        agents = Agents(world)
        _join(agents, keys)
        folder = world.directory / "push"
        folder.mkdir()
        scene = Scene(agents, folder)
        scene.publish("open")
        python = [sys.executable, "-m", "tests.support.push_program"]
        world.start(SERVER, CONTROL, [*python, str(keys), LISTEN, str(folder)])
        agents.start(NODE.name)
        scene.acked(1)
        yield scene


def _list_the_management_link(world: World) -> None:
    inventory = yaml.safe_load(world.inventory_path.read_text())
    inventory["namespaces"]["system"] = {"labels": {}}
    inventory["pods"].append(
        {
            "namespace": "system",
            "name": "reconciler",
            "node": NODE.name,
            "labels": {"app": "reconciler"},
            "addresses": [CONTROL_ADDRESS, NODE.control_v4],
            "interface": MANAGEMENT_LINK,
        }
    )
    world.inventory_path.write_text(yaml.safe_dump(inventory))


def _make_keys(keys: Path) -> None:
    now = datetime.now(UTC)
    init_keys(keys, now=now)
    init_certificates(keys, server_names=(SERVER_NAME,), now=now)
    add_node(keys, NODE.name, root=trusted_root(keys), now=now)


def _join(agents: Agents, keys: Path) -> None:
    given = keys / "nodes" / NODE.name
    document = yaml.safe_load(agents.config(NODE.name).read_text())
    document |= {
        "reconciler": {"address": LISTEN, "server_name": SERVER_NAME},
        "tls": {
            "ca": str(given / "ca.pem"),
            "certificate": str(given / "node.pem"),
            "key": str(given / "node.key"),
        },
        "trust": {"root": str(given / "root.json")},
    }
    agents.config(NODE.name).write_text(yaml.safe_dump(document))


def test_a_candidate_is_watched_on_live_traffic_promoted_as_it_was_observed_and_taken_back(
    scene: Scene,
) -> None:
    assert scene.outcome() is Outcome.ANSWERED
    assert scene.outcome(port=NEW_PORT) is Outcome.REFUSED
    watched = scene.acked(scene.publish("open", candidate="closed"))
    assert watched["role"] == "shadow"
    slot = scene.control().candidate
    assert scene.outcome() is Outcome.ANSWERED

    def would_be_denials() -> list[dict[str, Any]]:
        reports = scene.heard("evidence")
        return reports[-1]["differences"] if reports else []

    scene.world.wait_for("the would-be denial is reported", lambda: bool(would_be_denials()))
    (seen,) = would_be_denials()
    assert (seen["cause"], seen["port"]) == ("would-deny", DATABASE.port)
    assert (seen["source"]["pod"], seen["destination"]["pod"]) == ("frontend", "products-db")
    assert seen["rules"][0]["policy"]["name"] == "cut-database"
    shown = scene.status()["rollout"]
    assert (shown["role"], shown["differing_flows"]) == ("shadow", seen["count"])

    scene.world.kill(NODE.name)
    scene.agents.start(NODE.name)
    assert scene.control().candidate == slot
    assert scene.status()["rollout"]["differing_flows"] >= seen["count"]

    taken = scene.acked(scene.publish("open", candidate="closed", percent=100))
    assert taken["role"] == "enforcing"
    assert taken["generation_digest"] == taken["candidate_generation_digest"]
    assert taken["generation_digest"] == watched["candidate_generation_digest"]
    assert scene.control().active == slot
    assert scene.outcome() is Outcome.TIMEOUT
    assert scene.status()["kernel_agrees"]
    assert scene.outcome(port=NEW_PORT) is Outcome.TIMEOUT

    def new_denials() -> list[dict[str, Any]]:
        report = scene.heard("evidence")[-1]
        return [one for one in report["differences"] if one["port"] == NEW_PORT]

    scene.world.wait_for("what it cuts only now is reported", lambda: bool(new_denials()))
    assert new_denials()[0]["cause"] == "would-deny"
    assert new_denials()[0]["rules"] == seen["rules"]
    assert scene.heard("evidence")[-1]["role"] == "enforcing"

    word = scene.control()
    promoted = scene.acked(scene.publish("closed"))
    assert promoted["generation_digest"] == taken["generation_digest"]
    assert scene.control().active == word.active

    back = scene.acked(scene.publish("open"))
    assert scene.outcome() is Outcome.ANSWERED
    assert scene.status()["kernel_agrees"]
    assert back["generation_digest"] == watched["generation_digest"]


def test_a_policy_that_cuts_the_agent_off_from_its_reconciler_is_undone_by_the_agent_alone(
    scene: Scene,
) -> None:
    stable = scene.acked(scene.publish("open", confirm=CONFIRM))
    scene.publish("lethal", confirm=CONFIRM)

    def logged() -> str:
        return scene.world.tail(NODE.name, 10_000)

    scene.world.wait_for(
        "the agent takes it back",
        lambda: FLIP_TAKEN_BACK in logged(),
        timeout=CONFIRM + 20,
    )
    scene.world.wait_for(
        "what was before is in force again",
        lambda: scene.status()["generation_digest"] == stable["generation_digest"],
    )
    assert any(
        PLAN_APPLIED in line and COMMIT_OF["lethal"] in line for line in logged().splitlines()
    )
    status = scene.status()
    assert status["rollout"]["confirm"] == "reverted"
    assert status["sequence"] == stable["sequence"]
    assert any("taken back" in alarm for alarm in status["alarms"])

    def is_reported() -> bool:
        return scene.heard("ack")[-1]["role"] == "reverted"

    scene.world.wait_for("the agent said so", is_reported, timeout=60)
    scene.acked(scene.publish("open", confirm=CONFIRM))
    assert scene.status()["rollout"]["confirm"] == "settled"
