"""Two nodes encrypt what their pods say to each other; a tap on the link between them is the judge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.outcome import Outcome, Probe
from demo.workload_commands import probe_command, serve_command, target
from tests.support.tunnel_world import STRICT, TunnelNodes, tap
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = pytest.mark.kernel

CLIENT = ECOMMERCE.pod("frontend")
SERVER = ECOMMERCE.pod("api-gateway")


@pytest.fixture
def nodes() -> Iterator[TunnelNodes]:
    with World(ECOMMERCE) as world:
        for pod in (CLIENT, SERVER):
            world.start(f"serve-{pod.name}", pod.name, serve_command(pod))
        found = TunnelNodes(world)
        yield found


def outcomes(nodes: TunnelNodes) -> dict[str, Outcome]:
    targets = [target(SERVER, address) for address in SERVER.addresses]
    lines = nodes.world.run(CLIENT.name, probe_command(targets, timeout=2.0)).stdout.splitlines()
    probes = [Probe.decode(line) for line in lines]
    return {probe.target: probe.outcome for probe in probes}


def all_are(nodes: TunnelNodes, outcome: Outcome) -> bool:
    return set(outcomes(nodes).values()) == {outcome}


def encrypt(nodes: TunnelNodes, mode: str, settings=STRICT) -> None:
    nodes.tell_all(mode=mode, settings=settings)
    for node in ("node-a", "node-b"):
        nodes.start(node)
    nodes.exchange_keys(settings=settings, mode=mode)


def test_pods_of_two_nodes_talk_and_none_of_it_is_in_the_clear(nodes: TunnelNodes) -> None:
    encrypt(nodes, "strict")
    with tap(nodes.world, "node-a") as seen:
        nodes.world.wait_for("both families answer", lambda: all_are(nodes, Outcome.ANSWERED))
    assert seen.in_the_clear == []
    assert seen.tunnelled > 10
    assert nodes.report("node-a")["implementation"] == "userspace"
