"""Harder blows than a server that is away: one that never answers, one that forgot, leaders killed late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netpolicy import kube_api, kube_watch
from reconciler.rollout.machine import TAKEN_BACK
from tests.cluster.test_failures import behind_a_line, patiently, quick
from tests.cluster.test_reconciler import A, B
from tests.support.kube_replicas import Cluster
from tests.support.kube_server import KubeMachine, KubeServer
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import deny, names_of

pytestmark = pytest.mark.cluster

__all__ = ["quick"]  # a fixture
LONG = 90.0
"""Patience with a busy machine, whose Leases of seconds are lost and taken again meanwhile."""


async def shown(holds: Callable[[], Any]) -> None:
    """Wait for what the server shows, which may not answer yet."""
    async with asyncio.timeout(LONG):
        while not await asyncio.to_thread(patiently(holds)):
            await asyncio.sleep(0.2)


@pytest.fixture
def impatient(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is awaited for seconds, a watch that says nothing likewise."""
    monkeypatch.setattr(kube_api, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(kube_api, "OVERDUE_SECONDS", 1.0)
    monkeypatch.setattr(kube_watch, "WATCH_SECONDS", 2.0)


def test_an_api_server_that_takes_questions_and_never_answers_is_as_one_that_is_away(
    server: KubeServer, tmp_path: Path, impatient: None
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "mute", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.scene.agent() as node, behind_a_line(cluster) as far:
            await shown(lambda: cluster.phase(first) == "Promoted")
            inventories = len(node.inventories)
            far.line.is_silent = True
            await until_true(lambda: far.gauges()["tidegate_replica_leads"] == 0, seconds=LONG)
            await until_true(
                lambda: far.gauges()["tidegate_kubernetes_followed"] == 0, seconds=LONG
            )
            assert names_of(node) == ["a"]
            assert len(node.inventories) == inventories, "nobody is told that pods are gone"
            far.line.is_silent = False
            second = cluster.scene.repository.commit({B: deny("b")})
            await until_true(lambda: names_of(node) == ["a", "b"], seconds=LONG)
            await shown(lambda: cluster.phase(second) == "Promoted")
            await until_true(
                lambda: far.gauges()["tidegate_kubernetes_followed"] == 1, seconds=LONG
            )

    asyncio.run(script())


def test_a_server_set_back_to_before_anything_was_followed_moves_no_node_and_no_rollout(
    machine: KubeMachine, tmp_path: Path, quick: None
) -> None:
    async def script() -> None:
        cluster = Cluster.make(machine.server, "blank", tmp_path)
        rollout = {"shadow": {"soak": "1h"}}
        backup = await asyncio.to_thread(machine.back_up)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(rollout=rollout)
        async with cluster.scene.agent() as node, behind_a_line(cluster) as far:
            await shown(lambda: cluster.phase(first) == "Promoted")
            second = cluster.scene.repository.commit({B: deny("b")})
            await shown(lambda: cluster.phase(second) == "Shadow")
            await asyncio.to_thread(machine.restore, backup)
            await until_true(
                lambda: not far.replica._objects.repositories.cache.items, seconds=LONG
            )
            await asyncio.to_thread(cluster.follow, rollout=rollout)
            await shown(lambda: cluster.phase(second) == "Shadow")
            await shown(lambda: cluster.status().get("lastAppliedRevision") == first)
            assert {bundle.revision for bundle in node.bundles} == {first}
            numbers = [bundle.sequence for bundle in node.bundles]
            assert numbers == sorted(numbers)

    asyncio.run(script())


def test_what_was_rolled_back_is_not_brought_back_when_its_leader_is_killed(
    server: KubeServer, tmp_path: Path, quick: None
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "undone", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.scene.agent() as node:
            async with behind_a_line(cluster) as far:
                await shown(lambda: cluster.phase(first) == "Promoted")
                second = cluster.scene.repository.commit({B: deny("b")})
                await shown(lambda: cluster.phase(second) == "Promoted")
                cluster.annotate(second, rollback="1")
                await shown(lambda: cluster.phase(second) in TAKEN_BACK)
                await shown(lambda: cluster.status().get("lastAppliedRevision") == first)
                await until_true(lambda: names_of(node) == ["a"], seconds=LONG)
                before = node.bundles[-1].sequence
                far.line.cut()  # as a killed process, it gives nothing up
            async with cluster.replica("replica-b", port=cluster.scene.port):
                await until_true(lambda: node.bundles[-1].sequence > before, seconds=LONG)
                third = cluster.scene.repository.commit({B: deny("c")})
                await shown(lambda: cluster.phase(third) == "Promoted")
                revisions = [one.revision for one in node.bundles if one.sequence > before]
                assert list(dict.fromkeys(revisions)) == [first, third]

    asyncio.run(script())
