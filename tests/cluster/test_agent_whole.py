"""A real agent in a cluster: certificate by token, pods from the API server, interfaces by the runtime.

All of it is in the node's own namespace, the API server included.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster_node import PODS, ClusterNode, cluster_node
from tests.support.cri_server import Sandbox, StandInRuntime, serving_runtime
from tests.support.kernel_engine import OBJECT, private_config
from tests.support.kernel_pods import within
from tests.support.kube_bootstrap import bootstrap, make_accounts, start_pod, token_of
from tests.support.kube_node import Cluster
from tests.support.kube_scene import make_namespace
from tests.support.kube_server import kube_server
from tests.support.push_fleet import publish, serving, unit_of, until

pytestmark = pytest.mark.cluster
if os.geteuid() != 0:
    pytest.skip("needs root: programs are attached", allow_module_level=True)

NODE = "node-whole"
PORT = 8080
ENVIRONMENT = {**os.environ, "NODE_NAME": NODE}


@pytest.fixture
def node() -> Iterator[ClusterNode]:
    with cluster_node() as made:
        made.ip("node", "link set lo up")
        made.ip("node", "route add default via 192.0.2.254 dev uplink")  # an API server wants one
        yield made


@pytest.fixture
def bpffs() -> Iterator[Path]:
    folder = private_config().bpffs
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Agent:
    """The agent's process, and its command line."""

    config: Path

    async def ask(self, *words: str) -> Any:
        """What a command prints, as JSON."""
        command = [*self.program(*words), "-o", "json"]
        asked = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        text, _ = await asked.communicate()
        return json.loads(text) if asked.returncode == 0 else {}

    def program(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "nodeagent.cli", *words, "--config", str(self.config)]


@asynccontextmanager
async def running_agent(config: dict[str, Any], folder: Path) -> AsyncIterator[Agent]:
    """An agent as a DaemonSet starts it; its node's name is in its environment alone."""
    agent = Agent(folder / "agent.yaml")
    agent.config.write_text(yaml.safe_dump(config))
    with (folder / "agent.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *agent.program("run"), stdout=log, stderr=log, env=ENVIRONMENT
        )
        try:
            yield agent
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            detach = await asyncio.create_subprocess_exec(
                *agent.program("detach", "--yes"), stdout=log, stderr=log, env=ENVIRONMENT
            )
            await detach.wait()


def can_connect(node: ClusterNode, source: str, address: str) -> bool:
    """True if a pod reaches an address within a moment."""

    def connect() -> bool:
        try:
            socket.create_connection((address, PORT), timeout=0.5).close()
        except OSError:
            return False
        return True

    return within(f"{node.prefix}-{source}", connect)


def test_an_agent_of_a_cluster_brings_its_pods_under_policy(
    node: ClusterNode, bpffs: Path, tmp_path: Path
) -> None:
    def scene() -> None:
        with kube_server(tmp_path / "kubernetes") as server:
            cluster = Cluster(server, make_namespace(server, "shop"), NODE)
            cluster.add_node()
            make_accounts(server)
            start_pod(server, "agent", node=NODE)
            sandboxes = []
            for pod in ("b1", "b2"):
                uid = cluster.add_pod(pod)
                cluster.say_addresses(pod, PODS[pod][1])
                sandboxes.append(Sandbox(id=pod, uid=uid, netns=str(node.netns(pod))))
            asyncio.run(scenario(cluster, StandInRuntime(sandboxes=sandboxes)))

    async def scenario(cluster: Cluster, runtime: StandInRuntime) -> None:
        token = tmp_path / "token"
        token.write_text(token_of(cluster.server, "agent"))
        async with (
            serving_runtime(tmp_path / "cri.sock", runtime),
            bootstrap(cluster.server, tmp_path) as place,
            serving(place.keys) as (push, heard, port),
        ):
            config = {
                "state_dir": str(tmp_path / "state"),
                "bpffs": str(bpffs),
                "bpf_object": str(OBJECT),
                "socket": str(tmp_path / "agent.sock"),
                "kubernetes": {
                    "kubeconfig": str(cluster.server.kubeconfig),
                    "runtime": str(tmp_path / "cri.sock"),
                },
                "reconciler": {
                    "address": f"127.0.0.1:{port}",
                    "bootstrap": f"127.0.0.1:{place.port}",
                    "server_name": "localhost",
                },
                "tls": {"ca": str(place.keys / "tls" / "ca.pem"), "token": str(token)},
                "trust": {"root": str(place.root)},
            }
            async with running_agent(config, tmp_path) as agent:
                await until(lambda: heard.connected, seconds=30)
                assert heard.connected[0][0] == NODE
                await until_attached(agent, {"b1": "vethb1", "b2": "vethb2"})
                assert not await asyncio.to_thread(can_connect, node, "b1", "10.1.0.3")
                push.publish(publish(place.keys, 1, unit_of("shop", "harmless")))
                await until(lambda: heard.last is not None and heard.last.sequence == 1)
                for address in PODS["b2"][1]:
                    assert await asyncio.to_thread(can_connect, node, "b1", address)
                status = await agent.ask("status")
                assert status["connected"]
                assert status["alarms"] == []

    listening = [
        within(
            f"{node.prefix}-b2",
            lambda: socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True),
        )
    ]
    try:
        node.within(scene)
    finally:
        for each in listening:
            each.close()


async def until_attached(agent: Agent, wanted: dict[str, str]) -> None:
    """Wait until exactly these pods are under policy."""
    found: dict[str, str] = {}
    for _ in range(30):
        listed = await agent.ask("endpoint", "list")
        found = {one["pod"]: one["interface"] for one in listed if one.get("attached")}
        if found == wanted:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(found)
