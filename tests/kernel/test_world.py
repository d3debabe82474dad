"""The world of the demo and the live tests: it connects, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from demo.outcome import Outcome, Probe, StreamResult
from demo.workload_commands import probe_command, serve_command, stream_command, target
from tests.support import world_sweep
from tests.support.world import World, WorldError
from tests.support.world_topology import ECOMMERCE, inventory_text

pytestmark = pytest.mark.kernel

BUILDER = """
import sys, time
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE
world = World(ECOMMERCE).__enter__()
world.start("sleeper", "frontend", ["sleep", "600"])
print(world.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def world() -> Iterator[World]:
    with World(ECOMMERCE) as built:
        for pod in ECOMMERCE.pods:
            built.start(f"serve-{pod.name}", pod.name, serve_command(pod))
        built.wait_for("all servers listen", lambda: all(map(_listens(built), ECOMMERCE.pods)))
        yield built


def _listens(world: World):
    return lambda pod: bool(world.run(pod.name, ["ss", "-Hltn", f"sport = :{pod.port}"]).stdout)


def test_in_a_bare_world_every_pod_reaches_every_other_over_both_families(world: World) -> None:
    for pod in ECOMMERCE.pods:
        targets = [
            target(other, address)
            for other in ECOMMERCE.pods
            if other != pod
            for address in other.addresses
        ]
        lines = world.run(pod.name, probe_command(targets, timeout=3.0)).stdout.splitlines()
        probes = [Probe.decode(line) for line in lines]
        assert {probe.target: probe.outcome for probe in probes} == dict(
            product(targets, [Outcome.ANSWERED])
        )


def test_a_node_reaches_its_own_pods_and_the_other_nodes(world: World) -> None:
    for node, pod in product(ECOMMERCE.nodes, ECOMMERCE.pods):
        targets = [target(pod, address) for address in pod.addresses]
        lines = world.run(node.name, probe_command(targets, timeout=3.0)).stdout.splitlines()
        assert [Probe.decode(line).outcome for line in lines] == [Outcome.ANSWERED] * 2


def test_a_stream_numbers_its_questions_and_loses_none(world: World) -> None:
    pod = ECOMMERCE.pod("products-db")
    for fresh in (False, True):
        log = world.directory / f"stream-{fresh}"
        world.start("asking", "frontend", stream_command(target(pod, pod.v6), log=log, fresh=fresh))
        world.wait_for("some answers", lambda log=log: log.exists() and _count(log) > 20)
        assert world.stop("asking") == 0
        result = StreamResult.decode(log.read_text())
        assert [r.number for r in result.records] == list(range(1, len(result.records) + 1))
        assert result.failed == ()


def test_a_stream_over_one_connection_ends_when_it_is_no_longer_answered(world: World) -> None:
    pod = ECOMMERCE.pod("api-gateway")
    log = world.directory / "stream"
    asking = world.start("asking", "frontend", stream_command(target(pod, pod.v4), log=log))
    world.wait_for("some answers", lambda: log.exists() and _count(log) > 5)
    world.kill("serve-api-gateway")
    assert asking.wait(10) == 0
    result = StreamResult.decode(log.read_text())
    assert len(result.failed) == 1
    assert result.records[-1].outcome is Outcome.RESET


def _count(log: Path) -> int:
    return len(StreamResult.decode(log.read_text()).records)


def test_leaving_the_world_leaves_nothing_of_it() -> None:
    with World(ECOMMERCE) as world:
        world.start("stubborn", "stranger", ["sh", "-c", "trap '' TERM; sleep 600 & wait; wait"])
        assert world_sweep.survey(world.name)
    assert not world_sweep.survey(world.name)


def test_a_failure_inside_the_world_still_leaves_nothing_of_it() -> None:
    with pytest.raises(WorldError, match="not within"), World(ECOMMERCE) as world:
        world.wait_for("what never comes", lambda: False, timeout=0.05)
    assert not world_sweep.survey(world.name)


def test_the_sweep_finds_and_removes_what_a_killed_builder_left() -> None:
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert builder.stdout is not None
    name = builder.stdout.readline().strip()
    try:
        assert name not in world_sweep.abandoned()
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        left = world_sweep.survey(name)
        assert left.processes
        assert left.mounts
        assert len(left.namespaces) == len(ECOMMERCE.places)
        assert name in world_sweep.abandoned()
    finally:
        builder.kill()
        remaining = world_sweep.sweep(name)
    assert not remaining


def test_a_world_that_was_kept_is_not_called_abandoned() -> None:
    with World(ECOMMERCE) as world:
        world.keep()
    try:
        assert world_sweep.survey(world.name).namespaces
        assert world.name not in world_sweep.abandoned()
        assert world.name in world_sweep.worlds()
    finally:
        world.close()


def test_the_sweep_refuses_names_that_are_not_a_worlds() -> None:
    with pytest.raises(ValueError, match="no world of ours"):
        world_sweep.sweep("default")


def test_the_inventory_names_every_pod_with_its_interface_and_both_addresses(world: World) -> None:
    text = world.inventory_path.read_text()
    assert text == inventory_text(ECOMMERCE)
    for pod in ECOMMERCE.pods:
        shown = world.run(pod.node.name, ["ip", "-o", "route", "get", pod.v4]).stdout
        assert f"dev {pod.interface}" in shown
        assert pod.interface in text
        assert pod.v6 in text
