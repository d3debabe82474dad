"""Interfaces of pods that nobody has listed: shut from the moment they lead to a pod.

stranger ── node-a          an agent in node-a, whose inventory does not know the stranger
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.live_agents import Agents
from tests.support.standing_programs import is_under_policy
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

CONNECT = """
import socket, sys
try:
    socket.create_connection(("10.9.9.1", 9), timeout=1)
except TimeoutError:
    sys.exit(3)
"""
UNHEARD = 3
POD = ECOMMERCE.pod("frontend")
NODE = POD.node.name


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    with World(ECOMMERCE) as world:
        found = Agents(world)
        document = yaml.safe_load(found.config(NODE).read_text())
        found.config(NODE).write_text(yaml.safe_dump({**document, "pod_interfaces": ["new*"]}))
        found.start(NODE)
        yield found


@pytest.fixture(autouse=True)
def fresh(agents: Agents) -> Iterator[None]:
    yield
    for interface in ("new1", "other1", "late1"):
        agents.world.run(NODE, ["ip", "link", "del", interface], check=False)


def test_an_interface_that_appears_before_its_pod_is_listed_is_shut(agents: Agents):
    _make(agents.world, "new1")
    _wait_until_shut(agents.world, "new1")
    assert agents.ask_json(NODE, "status")["strangers"] == ["new1"]
    asked = agents.world.run(POD.name, [sys.executable, "-c", CONNECT], check=False)
    assert asked.returncode == UNHEARD, "the node would refuse a connection that it hears of"
    drops = agents.ask_json(NODE, "status")["drops"]
    assert any(drop["reason"] == 203 for drop in drops), "no endpoint is behind it"


def test_a_pair_whose_other_end_is_moved_to_a_pod_is_shut_then(agents: Agents):
    world = agents.world
    ip = ["ip", "link", "add", "new1", "type", "veth", "peer", "name", "other1"]
    world.run(NODE, ip)
    assert not is_under_policy(world, NODE, "new1")
    world.run(NODE, ["ip", "link", "set", "other1", "netns", world.namespace(POD.name)])
    _wait_until_shut(world, "new1")
    world.run(POD.name, ["ip", "link", "del", "other1"])


def test_interfaces_of_other_names_and_pairs_within_the_node_are_left_alone(agents: Agents):
    _make(agents.world, "other1")
    _make(agents.world, "new1")
    _wait_until_shut(agents.world, "new1")
    assert not is_under_policy(agents.world, NODE, "other1")


def test_one_that_appeared_while_the_agent_was_dead_is_shut_at_its_start(agents: Agents):
    agents.world.kill(NODE)
    _make(agents.world, "new1")
    assert not is_under_policy(agents.world, NODE, "new1")
    agents.start(NODE)
    _wait_until_shut(agents.world, "new1")
    assert agents.ask_json(NODE, "status")["strangers"] == ["new1"]


SENDER = """
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(200):
    sender.sendto(b"x", ("10.9.9.1", 4444))
"""
SEEN = """
table inet seen {
  chain arrived {
    type filter hook prerouting priority 0; policy accept;
    udp dport 4444 counter
  }
}
"""


@pytest.fixture
def counted(agents: Agents) -> Iterator[World]:
    """Who sends to port 4444 of the node and is not shut out is counted."""
    agents.world.run(NODE, ["nft", SEEN])
    yield agents.world
    agents.world.run(NODE, ["nft", "delete table inet seen"])


def test_as_it_comes_nothing_passes_while_no_agent_runs_nor_when_one_starts(
    agents: Agents, counted: World
):
    counted.kill(NODE)
    _make(counted, "new1")
    _send(counted, "new1")
    agents.start(NODE)
    _wait_until_shut(counted, "new1")
    _send(counted, "new1")
    assert _arrived(counted) == 0


def test_the_fence_opens_for_a_pair_within_the_node_and_stands_before_no_other_name(
    counted: World,
):
    counted.run(NODE, ["ip", "link", "add", "new1", "type", "veth", "peer", "name", "other1"])
    counted.wait_for("the fence is open for new1", lambda: '"new1"' in _opened(counted))
    counted.run(NODE, ["ip", "link", "del", "new1"])
    _make(counted, "other1")
    _send(counted, "other1")
    assert _arrived(counted) > 0


def test_a_listed_pods_interface_is_shut_from_its_first_moment_whatever_its_name(
    agents: Agents, counted: World
):
    inventory = counted.inventory_path
    others = inventory.read_text()
    document = yaml.safe_load(others)
    late = {"namespace": "shop", "name": "late", "node": NODE, "interface": "late1"}
    document["pods"].append({**late, "addresses": ["10.9.9.2"]})
    _replace(inventory, yaml.safe_dump(document))
    counted.wait_for("the fence expects it", lambda: '"late1"' in _expected(counted))
    counted.kill(NODE)
    _make(counted, "late1")
    _send(counted, "late1")
    assert _arrived(counted) == 0
    agents.start(NODE)
    counted.wait_for("the fence is open for it", lambda: '"late1" .' in _opened(counted))
    assert is_under_policy(counted, NODE, "late1")
    _send(counted, "late1")
    assert _arrived(counted) == 0, "it is judged: nobody allows this"
    _replace(inventory, others)
    counted.wait_for("the fence expects it no more", lambda: '"late1"' not in _expected(counted))


def test_an_agent_that_is_told_to_have_no_fence_takes_an_earlier_ones_down(
    agents: Agents, counted: World
):
    config = agents.config(NODE)
    fenced = config.read_text()
    counted.kill(NODE)
    config.write_text(yaml.safe_dump({**yaml.safe_load(fenced), "fence": False}))
    agents.start(NODE)
    assert "tidegate_fence" not in counted.run(NODE, ["nft", "list", "tables"]).stdout
    counted.kill(NODE)
    _make(counted, "new1")
    _send(counted, "new1")
    assert _arrived(counted) > 0, "nobody is there to shut it"
    config.write_text(fenced)
    agents.start(NODE)
    _wait_until_shut(counted, "new1")


def _send(world: World, interface: str) -> None:
    """From the pod to the node, without asking for its MAC."""
    (link,) = json.loads(world.run(NODE, ["ip", "-j", "link", "show", interface]).stdout)
    mac = ["ip", "neighbour", "replace", "10.9.9.1", "lladdr", link["address"]]
    world.run(POD.name, [*mac, "dev", f"p-{interface}"])
    world.run(POD.name, [sys.executable, "-c", SENDER])


def _arrived(world: World) -> int:
    listed = world.run(NODE, ["nft", "--json", "list", "table", "inet", "seen"]).stdout
    (rule,) = [entry["rule"] for entry in json.loads(listed)["nftables"] if "rule" in entry]
    (packets,) = [part["counter"]["packets"] for part in rule["expr"] if "counter" in part]
    return int(packets)


def _replace(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def _expected(world: World) -> str:
    """The names and patterns that are dropped unless they are open."""
    table = world.run(NODE, ["nft", "list", "table", "inet", "tidegate_fence"]).stdout
    return next(line for line in table.splitlines() if line.endswith("drop"))


def _opened(world: World) -> str:
    return world.run(NODE, ["nft", "list", "set", "inet", "tidegate_fence", "opened"]).stdout


def _make(world: World, interface: str) -> None:
    peer = ["type", "veth", "peer", "name", f"p-{interface}", "netns", world.namespace(POD.name)]
    world.run(NODE, ["ip", "link", "add", interface, *peer])
    world.run(NODE, ["ip", "address", "add", "10.9.9.1/24", "dev", interface])
    world.run(NODE, ["ip", "link", "set", interface, "up"])
    world.run(POD.name, ["ip", "address", "add", "10.9.9.2/24", "dev", f"p-{interface}"])
    world.run(POD.name, ["ip", "link", "set", f"p-{interface}", "up"])


def _wait_until_shut(world: World, interface: str) -> None:
    world.wait_for(f"{interface} is shut", lambda: is_under_policy(world, NODE, interface))
