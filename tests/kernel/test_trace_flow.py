"""`nodeagent trace FROM TO PORT` on live nodes: it says what packets meet, with the agent and without.

frontend ─ node-a ══ node-b ─ api-gateway      one agent in each node, the bootstrap policy in force
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from demo.outcome import Outcome, Probe
from demo.workload_commands import probe_command, serve_command, target
from tests.support.live_agents import Agents
from tests.support.standing_programs import take_ours_off
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

FRONTEND, DATABASE = ECOMMERCE.pod("frontend"), ECOMMERCE.pod("products-db")
NODE = FRONTEND.node.name
ALLOWED, DENIED, CANNOT_TELL = 0, 1, 2


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    with World(ECOMMERCE) as world:
        world.start("serve", DATABASE.name, serve_command(DATABASE))
        found = Agents(world)
        found.start(NODE)
        yield found


def trace(agents: Agents, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nodeagent.cli", "trace", *words]
    return agents.world.run(
        NODE, [*command, "--config", str(agents.config(NODE))], check=False, timeout=60
    )


def outcome(agents: Agents, place: str) -> Outcome:
    command = probe_command([target(DATABASE, DATABASE.v4)])
    (line,) = agents.world.run(place, command).stdout.splitlines()
    return Probe.decode(line).outcome


def test_the_answer_is_what_a_packet_meets_and_names_the_policy(agents: Agents):
    shut = trace(agents, "e-commerce/frontend", "e-commerce/products-db", "tcp/5432")
    assert (shut.returncode, outcome(agents, FRONTEND.name)) == (DENIED, Outcome.TIMEOUT)
    assert shut.stdout.splitlines()[-1] == "DENIED"
    assert shut.stdout.count("because  tidegate-bootstrap") == 2
    answered = trace(agents, NODE, "e-commerce/products-db", "5432", "-o", "json")
    assert (answered.returncode, outcome(agents, NODE)) == (ALLOWED, Outcome.ANSWERED)
    (side,) = json.loads(answered.stdout)["sides"]
    assert (side["direction"], side["because"]) == ("ingress", "tidegate-bootstrap ingress[0]")


def test_a_flow_that_the_kernel_tracks_is_shown(agents: Agents):
    assert outcome(agents, NODE) is Outcome.ANSWERED
    # The host talks to its pod from the address of its route to it.
    told = trace(agents, FRONTEND.node.link_v4, "e-commerce/products-db", "5432", "-o", "json")
    (side,) = json.loads(told.stdout)["sides"]
    assert {(f["local_port"], f["verdict"]) for f in side["flows"]} == {(5432, "allow")}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nobody/here", "10.1.0.11", "80"), '"nobody/here" is no address'),
        (("10.1.0.10", "10.1.0.11", "https"), '"https": a port is written as'),
        (("10.1.0.10", "10.1.0.11"), "FROM, TO and PORT belong together"),
        (("10.1.0.10", "fd00::1", "80"), "no addresses of one family"),
        (("10.1.0.10", "10.1.0.11", "80", "--slot", "preview"), "no preview generation is loaded"),
        (("10.1.0.10", "10.1.0.11", "80", "--drops"), "--drops and --process take no FROM"),
    ],
)
def test_what_cannot_be_told_ends_with_its_own_code(
    agents: Agents, words: tuple[str, ...], complaint: str
):
    refused = trace(agents, *words)
    assert refused.returncode == CANNOT_TELL
    assert complaint in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_the_agent_the_verdict_stands_and_the_policy_is_a_cookie(agents: Agents):
    agents.world.kill(NODE)
    told = trace(agents, "e-commerce/frontend", "192.0.2.1", "udp/53")
    assert told.returncode == DENIED
    assert "only the agent that planned it knows its policy" in told.stdout
    assert "stay numbers" in told.stderr
    take_ours_off(agents.world, NODE, FRONTEND.interface)
    unguarded = trace(agents, "e-commerce/frontend", "192.0.2.1", "udp/53")
    assert unguarded.returncode == CANNOT_TELL
    assert "NO FILTER is attached" in unguarded.stdout
    agents.start(NODE)
    assert trace(agents, "e-commerce/frontend", "192.0.2.1", "udp/53").returncode == DENIED
