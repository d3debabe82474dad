"""The agent on real interfaces, without a reconciler: bootstrap policy, crash, restart, detach.

stranger ── node-b ══ node-a ── frontend, api-gateway …      one agent in each node
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from demo.outcome import Outcome, Probe
from demo.workload_commands import probe_command, serve_command, target
from tests.support.live_agents import Agents
from tests.support.standing_programs import is_under_policy, standing, take_ours_off
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NODES = tuple(node.name for node in ECOMMERCE.nodes)
GATEWAY, FRONTEND = ECOMMERCE.pod("api-gateway"), ECOMMERCE.pod("frontend")
MAX_RESIDENT_KB = 120 * 1024


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    with World(ECOMMERCE) as world:
        for pod in ECOMMERCE.pods:
            world.start(f"serve-{pod.name}", pod.name, serve_command(pod))
        world.wait_for(
            "all servers listen",
            lambda: all(
                world.run(pod.name, ["ss", "-Hltn", f"sport = :{pod.port}"]).stdout
                for pod in ECOMMERCE.pods
            ),
        )
        found = Agents(world)
        for node in NODES:
            found.start(node)
        yield found


def _outcomes(agents: Agents, place: str) -> set[Outcome]:
    targets = [target(GATEWAY, address) for address in GATEWAY.addresses]
    lines = agents.world.run(place, probe_command(targets)).stdout.splitlines()
    return {Probe.decode(line).outcome for line in lines}


def test_without_a_bundle_pods_are_shut_and_every_denial_names_the_bootstrap_policy(agents: Agents):
    assert _outcomes(agents, "frontend") == {Outcome.TIMEOUT}
    dropped = agents.drops(FRONTEND.node.name)
    from_frontend = [f for f in dropped if f["source"]["pod_name"] == "frontend"]
    assert {f["IP"]["ipVersion"] for f in from_frontend} == {"IPv4", "IPv6"}
    for flow in from_frontend:
        assert flow["traffic_direction"] == "EGRESS"
        assert flow["egress_denied_by"][0]["name"] == "tidegate-bootstrap"
        assert flow["drop_reason_desc"] == "POLICY_DENIED"


def test_the_nodes_own_host_reaches_its_pods(agents: Agents):
    assert _outcomes(agents, GATEWAY.node.name) == {Outcome.ANSWERED}


def test_status_agrees_with_the_kernel_and_memory_stays_small(agents: Agents):
    for node in NODES:
        status = agents.ask_json(node, "status")
        assert status["kernel_agrees"]
        assert status["generation_digest"] == status["kernel_generation_digest"] != ""
        assert not status["awaited_interfaces"]
        endpoints = agents.ask_json(node, "endpoint", "list")
        assert endpoints
        assert all(endpoint["attached"] for endpoint in endpoints)
        resident = _resident_kb(agents.world.process(node).pid)
        assert resident < MAX_RESIDENT_KB, resident


def test_the_kernel_can_be_asked_without_the_agent(agents: Agents):
    node = GATEWAY.node.name
    rows = agents.ask_json(node, "bpf", "policy", "get")
    assert {row["direction"] for row in rows} == {"ingress", "egress"}
    _outcomes(agents, node)
    entries = agents.ask_json(node, "bpf", "ct", "list")
    assert any(entry["remote"] in _addresses_of(node) for entry in entries)


def test_a_killed_agent_leaves_enforcement_and_its_successor_adopts_it_without_a_flip(
    agents: Agents,
):
    node = FRONTEND.node.name
    before = agents.ask_json(node, "status")["datapath_revision"]
    agents.world.kill(node)
    assert _outcomes(agents, "frontend") == {Outcome.TIMEOUT}
    agents.start(node)
    status = agents.ask_json(node, "status")
    assert status["datapath_revision"] == before
    assert status["kernel_agrees"]
    assert _outcomes(agents, "frontend") == {Outcome.TIMEOUT}
    assert agents.drops(node)


def test_programs_that_somebody_takes_off_an_interface_come_back(agents: Agents):
    node, interface, world = FRONTEND.node.name, FRONTEND.interface, agents.world
    assert is_under_policy(world, node, interface)
    before = agents.repaired(node, "program")
    take_ours_off(world, node, interface)
    world.wait_for("they are back", lambda: is_under_policy(world, node, interface), timeout=3)
    world.wait_for("it is counted", lambda: agents.repaired(node, "program") > before)
    assert _outcomes(agents, "frontend") == {Outcome.TIMEOUT}


def test_a_running_agent_is_not_detached_behind_its_back(agents: Agents):
    node = FRONTEND.node.name
    command = [sys.executable, "-m", "nodeagent.cli", "detach", "--yes"]
    config = ["--config", str(agents.config(node))]
    refused = agents.world.run(node, [*command, *config], check=False)
    assert refused.returncode == 1
    assert "stop the agent first" in refused.stderr
    assert _outcomes(agents, "frontend") == {Outcome.TIMEOUT}


def test_detaching_opens_the_node_and_leaves_no_pin(agents: Agents):
    for node in NODES:
        assert agents.world.stop(node) == 0
        agents.ask(node, "detach", "--yes")
        agents.ask(node, "detach", "--yes")  # what is done already is no failure
        assert not (agents.world.bpffs / node).exists()
        interfaces = [pod.interface for pod in ECOMMERCE.pods if pod.node.name == node]
        assert not any(standing(agents.world, node, interface) for interface in interfaces)
        assert "clsact" not in agents.world.run(node, ["tc", "qdisc", "show"]).stdout
    assert _outcomes(agents, "frontend") == {Outcome.ANSWERED}


def _resident_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(os.strerror(3))


def _addresses_of(node: str) -> set[str]:
    (found,) = (n for n in ECOMMERCE.nodes if n.name == node)
    return {found.link_v4, found.link_v6, found.management_v4}


@pytest.mark.parametrize("own_state", [False, True])
def test_a_second_agent_on_a_node_is_refused_and_says_why(agents: Agents, own_state: bool):
    node = NODES[own_state]
    agents.start(node)
    document = yaml.safe_load(agents.config(node).read_text())
    if own_state:
        document["state_dir"] += "-other"
    config = agents.config("second")
    config.write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "nodeagent.cli", "run", "--config", str(config)]
    second = agents.world.run(node, command, check=False)
    assert second.returncode == 1
    assert "another agent works in" in second.stderr
    assert agents.ask_json(node, "status")["kernel_agrees"]


def test_only_its_owner_may_read_what_an_agent_writes(agents: Agents):
    written = list((agents.world.directory / "state" / NODES[0]).rglob("*"))
    assert written
    assert all(path.stat().st_mode & 0o077 == 0 for path in written)
