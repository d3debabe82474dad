"""A pod's interface goes, comes back and changes its name, beside a live agent and behind a dead one.

frontend ── node-a ══ node-b ── api-gateway      an agent in node-a alone: what frontend may send is
                                                 its own interface's word
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest

from demo.outcome import Outcome, Probe
from demo.workload_commands import probe_command, serve_command, target
from tests.support.live_agents import Agents
from tests.support.standing_programs import is_under_policy
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE, address_commands, link_commands

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

FRONTEND, GATEWAY = ECOMMERCE.pod("frontend"), ECOMMERCE.pod("api-gateway")
NODE, INTERFACE = FRONTEND.node.name, FRONTEND.interface


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    with World(ECOMMERCE) as world:
        world.start("serve", GATEWAY.name, serve_command(GATEWAY))
        world.wait_for(
            "the server listens",
            lambda: bool(
                world.run(GATEWAY.name, ["ss", "-Hltn", f"sport = :{GATEWAY.port}"]).stdout
            ),
        )
        assert _outcomes(world) == {Outcome.ANSWERED}
        found = Agents(world)
        found.start(NODE)
        yield found


def test_a_new_interface_of_the_same_name_is_under_policy(agents: Agents):
    before = _index(agents.world)
    _make_anew(agents.world)
    assert _index(agents.world) != before
    _wait_until_shut(agents.world)


def test_a_new_interface_of_the_same_name_and_index_is_under_policy(agents: Agents):
    before = _index(agents.world)
    agent = agents.world.process(NODE)
    agent.send_signal(signal.SIGSTOP)  # it sees one change, not two
    _make_anew(agents.world, index=before)
    agent.send_signal(signal.SIGCONT)
    assert _index(agents.world) == before
    _wait_until_shut(agents.world)


def test_an_interface_that_is_renamed_and_renamed_back_is_never_open(agents: Agents):
    for old, new in ((INTERFACE, "elsewhere"), ("elsewhere", INTERFACE)):
        _ip(agents.world, "link", "set", old, "down")
        _ip(agents.world, "link", "set", old, "name", new)
        _ip(agents.world, "link", "set", new, "up")
        assert is_under_policy(agents.world, NODE, new)
    _ip_batch(agents.world, NODE, [c for c in address_commands(ECOMMERCE, NODE) if "route" in c])
    _wait_until_shut(agents.world)


def test_an_interface_made_while_the_agent_was_dead_is_under_policy_once_it_is_back(
    agents: Agents,
):
    agents.world.kill(NODE)
    _make_anew(agents.world)
    agents.start(NODE)
    _wait_until_shut(agents.world)


def _make_anew(world: World, *, index: int = 0) -> None:
    """The pod's cable torn out and another put in, addresses and routes as before."""
    names = {place: world.namespace(place) for place in ECOMMERCE.places}
    (cable,) = (line for line in link_commands(ECOMMERCE, names) if INTERFACE in line)
    if index:
        cable = cable.replace(" type veth", f" index {index} type veth")
    _ip(world, "link", "del", INTERFACE)
    world.run(NODE, ["ip", *cable.split()])
    _ip_batch(world, FRONTEND.name, address_commands(ECOMMERCE, FRONTEND.name))
    _ip_batch(world, NODE, [c for c in address_commands(ECOMMERCE, NODE) if INTERFACE in c])


def _wait_until_shut(world: World) -> None:
    world.wait_for("programs are there", lambda: is_under_policy(world, NODE, INTERFACE))
    assert _outcomes(world) == {Outcome.TIMEOUT}


def _index(world: World) -> int:
    shown = world.run(NODE, ["ip", "-json", "link", "show", INTERFACE]).stdout
    return int(json.loads(shown)[0]["ifindex"])


def _ip(world: World, *words: str) -> None:
    world.run(NODE, ["ip", *words])


def _ip_batch(world: World, place: str, lines: list[str]) -> None:
    """Each line on its own: some of it may be there already."""
    for line in lines:
        world.run(place, ["ip", *line.split()], check=False)


def _outcomes(world: World) -> set[Outcome]:
    targets = [target(GATEWAY, address) for address in GATEWAY.addresses]
    lines = world.run(FRONTEND.name, probe_command(targets)).stdout.splitlines()
    return {Probe.decode(line).outcome for line in lines}
