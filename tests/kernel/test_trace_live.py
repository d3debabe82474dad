"""Live traces of a flow: its packets hook by hook, verdicts, drop reasons, and who asked for it.

frontend ─ node-a ─ products-db      one agent, the bootstrap policy in force
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.workload_commands import probe_command, serve_command, target
from nodeagent.trace.containers import cgroup2_mounts
from tests.support.live_agents import Agents
from tests.support.trace_headers import prepared_headers
from tests.support.world import PROJECT, World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.alone]

FRONTEND, DATABASE = ECOMMERCE.pod("frontend"), ECOMMERCE.pod("products-db")
NODE = FRONTEND.node
POD_UID, CONTAINER = str(uuid.uuid4()), "ab" * 32
JOIN = """
import os, sys
with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    headers = tmp_path_factory.mktemp("headers") / "tree"
    with prepared_headers(headers), World(ECOMMERCE) as world:
        world.start("serve", DATABASE.name, serve_command(DATABASE))
        found = Agents(world)
        found.start(NODE.name)
        yield found


@pytest.fixture
def container() -> Iterator[Path]:
    """A control group named as a container runtime names it."""
    (root, *_) = cgroup2_mounts(Path("/proc/self/mountinfo").read_text())
    pod = root / f"kubepods-pod{POD_UID.replace('-', '_')}.slice"
    group = pod / f"cri-containerd-{CONTAINER}.scope"
    group.mkdir(parents=True)
    try:
        yield group
    finally:
        group.rmdir()
        pod.rmdir()


def connect(agents: Agents, place: str, *, group: Path | None = None) -> None:
    """One attempt to reach the database."""
    command = probe_command([target(DATABASE, DATABASE.v4)])
    if group is not None:
        command = [sys.executable, "-c", JOIN, str(group / "cgroup.procs"), *command]
    agents.world.run(place, command)


def trace(agents: Agents, when_ready: Callable[[], None], *words: str) -> list[dict[str, Any]]:
    """Run a trace; act once it follows; its JSON lines."""
    command = [sys.executable, "-m", "nodeagent.cli", "trace", *words, "-o", "json"]
    process = subprocess.Popen(
        agents.world.enter(NODE.name, [*command, "--config", str(agents.config(NODE.name))]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if "following" in line:
                when_ready()
                break
        printed, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert "following" in said[-1], said
    assert "Traceback" not in rest
    return [json.loads(line) for line in printed.splitlines() if line.startswith('{"')]


def test_a_refused_connection_is_followed_from_its_process_to_its_drop(agents: Agents):
    """Six lines of its first packet, four of the second, which comes a second later."""
    lines = trace(
        agents,
        lambda: connect(agents, FRONTEND.name),
        "e-commerce/frontend", "e-commerce/products-db", "5432", "--live",
        "--count", "10", "--duration", "30",
    )  # fmt: skip
    sightings = [line for line in lines if "hook" in line]
    hooks = [line["hook"] for line in sightings]
    assert hooks[:6] == ["connect", "state", "queued", "sent", "received", "dropped"]
    asked, state, queued, _sent, received, dropped = sightings[:6]
    assert state["seen"]["reason"] == "CLOSE → SYN_SENT"
    assert asked["process"]["pid"] == queued["process"]["pid"] > 0
    assert (queued["seen"]["device"], received["seen"]["device"]) == ("eth0", FRONTEND.interface)
    assert dropped["seen"]["reason"] == "TC_INGRESS"
    assert all(0 < s["since_ns"] < 1_000_000_000 for s in (_sent, received, dropped))
    (verdict, *_) = [line for line in lines if line.get("verdict") == "DROPPED"]
    assert verdict["egress_denied_by"][0]["name"] == "tidegate-bootstrap"


def test_a_denied_flow_names_the_process_its_container_and_its_pod(agents: Agents, container: Path):
    (denied,) = trace(
        agents,
        lambda: connect(agents, FRONTEND.name, group=container),
        "--process", "--pod", "e-commerce/frontend", "--count", "1", "--duration", "20",
    )  # fmt: skip
    assert (denied["verdict"], denied["destination"]["pod_name"]) == ("DROPPED", DATABASE.name)
    process = denied["process"]
    assert (process["container"], process["pod_uid"]) == (CONTAINER, POD_UID)
    assert process["command"].startswith("python")


def test_the_kernels_own_answer_is_nobodys(agents: Agents):
    """A datagram to a closed port is answered by an ICMP error, sent while anybody runs."""
    send = f"import socket; socket.socket(2, 2).sendto(b'x', ('{DATABASE.v4}', 4242))"
    lines = trace(
        agents,
        lambda: agents.world.run(NODE.name, [sys.executable, "-c", send]) and None,
        NODE.link_v4, DATABASE.v4, "icmp/8", "--live", "--count", "1", "--duration", "30",
    )  # fmt: skip
    queued = [line for line in lines if line.get("hook") == "queued"]
    assert queued[0]["seen"]["source"] == DATABASE.v4
    assert queued[0]["process"] is None


def test_a_flow_that_cannot_be_followed_does_not_read_as_denied(agents: Agents, tmp_path: Path):
    """The code is not that of the verdict, which is printed all the same."""
    asked = [NODE.link_v4, DATABASE.v4, "5432", "--live", "--config", str(agents.config(NODE.name))]
    done = agents.world.run(
        NODE.name,
        [sys.executable, "-m", "nodeagent.cli", "trace", *asked],
        environment={**os.environ, "BCC_KERNEL_SOURCE": str(tmp_path)},
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot trace: " in done.stderr
    assert done.stdout.rstrip().endswith(("ALLOWED", "DENIED"))
