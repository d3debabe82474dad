"""Three replicas behind one service: the one that leads dies, and agents are served again by who is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.cluster.test_failures import AWAY, LEASE, quick
from tests.cluster.test_reconciler import A, B, until
from tests.support.cut_line import CutLine, cut_line
from tests.support.kube_replicas import Cluster, Member
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import Node
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import a_free_port, deny, names_of
from tests.support.service_port import service_port

pytestmark = pytest.mark.cluster

__all__ = ["quick"]  # a fixture


class Replicas:
    """Three of them, each with a way to the API server that can be cut."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._alive: dict[str, tuple[CutLine, Member]] = {}

    async def start(self, cluster: Cluster, name: str) -> int:
        """Where it serves agents."""
        line = await self._stack.enter_async_context(cut_line(cluster.server.port))
        kubeconfig = cluster.server.kubeconfig_through(line.port)
        running = cluster.replica(name, port=a_free_port(), kubeconfig=kubeconfig)
        member = await self._stack.enter_async_context(running)
        self._alive[name] = (line, member)
        return member.port

    def leading(self) -> list[str]:
        """Who says that it leads."""
        return [name for name, (_, one) in self._alive.items() if one.replica._keeper.term]

    async def kill_leader(self) -> str:
        """Its sockets close, and it gives nothing up; who it was."""
        await until_true(lambda: len(self.leading()) == 1, seconds=AWAY)
        (name,) = self.leading()
        line, member = self._alive.pop(name)
        line.cut()
        member.task.cancel()
        await asyncio.gather(member.task, return_exceptions=True)
        return name


@asynccontextmanager
async def three(cluster: Cluster) -> AsyncIterator[tuple[Replicas, int]]:
    """The replicas, and the port of the service before them."""
    async with AsyncExitStack() as stack:
        replicas = Replicas(stack)
        ports = [await replicas.start(cluster, f"replica-{letter}") for letter in "abc"]
        yield replicas, await stack.enter_async_context(service_port(*ports))


@pytest.mark.slow
def test_agents_are_served_again_when_the_leader_of_three_replicas_dies(
    server: KubeServer, tmp_path: Path, quick: None
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "three", tmp_path)
        cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with three(cluster) as (replicas, port), cluster.scene.agent(port=port) as node:
            await until_true(lambda: names_of(node) == ["a"], seconds=AWAY)
            leader = await replicas.kill_leader()
            revision = cluster.scene.repository.commit({B: deny("b")})
            await until_true(lambda: names_of(node) == ["a", "b"], seconds=AWAY)
            await until(lambda: cluster.phase(revision) == "Promoted")
            assert holder(server, cluster.namespace) != leader
            check_nothing_was_taken_back(node)

    asyncio.run(script())


def holder(server: KubeServer, namespace: str) -> str:
    """Who leads, as the Lease says."""
    words = ("get", "lease", LEASE, "-n", namespace, "-o", "jsonpath={.spec.holderIdentity}")
    return server.kubectl(*words)


def check_nothing_was_taken_back(node: Node) -> None:
    """Publications only ever rose in number, and kept every policy of the former ones."""
    assert [one.sequence for one in node.bundles] == sorted(one.sequence for one in node.bundles)
    counts = [len(one.units[0].policies) for one in node.bundles]
    assert counts == sorted(counts)
