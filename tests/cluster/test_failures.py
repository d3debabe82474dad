"""What breaks between the reconciler and the API server: enforcement holds, and somebody says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from netpolicy import kube_watch
from netpolicy.kube_api import KubeApi, KubeRefusal
from reconciler.cluster import lease, lease_keeper
from reconciler.in_cluster.run import Replica
from tests.cluster.test_reconciler import A, B, until
from tests.support.beside import beside
from tests.support.cut_line import CutLine, cut_line
from tests.support.kube_replicas import Cluster
from tests.support.kube_server import KubeMachine, KubeServer
from tests.support.push_fleet import Node
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import deny, names_of

pytestmark = pytest.mark.cluster

LEASE = "tidegate-reconciler"
AWAY = 90.0
"""Patience where a server is away, slow, or starts again."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lease lost and taken in seconds, the order of its three times as it is; watches tried again soon."""
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 2.5)
    monkeypatch.setattr(lease, "DURATION_SECONDS", 4)
    monkeypatch.setattr(kube_watch, "LONGEST_PAUSE_SECONDS", 1.0)


@asynccontextmanager
async def behind_a_line(cluster: Cluster) -> AsyncIterator[Line]:
    """A replica whose way to the API server a test can cut or slow down."""
    async with cut_line(cluster.server.port) as line:
        kubeconfig = cluster.server.kubeconfig_through(line.port)
        async with cluster.replica(port=cluster.scene.port, kubeconfig=kubeconfig) as member:
            yield Line(line, member.replica)


class Line:
    """The line and the replica at its end."""

    def __init__(self, line: CutLine, replica: Replica) -> None:
        self.line = line
        self.replica = replica

    def gauges(self) -> dict[str, float]:
        """What it exports: the value of each metric, the least over its labels."""
        return {
            family.name: min(sample.value for sample in family.samples)
            for family in self.replica._metrics()
            if family.samples
        }


def test_an_api_server_that_goes_away_changes_nothing_and_is_followed_again_when_it_is_back(
    server: KubeServer, tmp_path: Path, quick: None
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "away", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.scene.agent() as node, behind_a_line(cluster) as far:
            await until(lambda: cluster.phase(first) == "Promoted")
            assert far.gauges()["tidegate_kubernetes_followed"] == 1
            inventory = node.inventories[-1]
            far.line.cut()
            await until_true(lambda: far.gauges()["tidegate_replica_leads"] == 0)
            assert far.gauges()["tidegate_kubernetes_followed"] == 0
            second = cluster.scene.repository.commit({B: deny("b")})
            await asyncio.sleep(1.5)  # some passes over Git, if there were any
            assert names_of(node) == ["a"]
            assert node.inventories[-1] == inventory
            far.line.mend()
            await until_true(lambda: names_of(node) == ["a", "b"], seconds=AWAY)
            await until(lambda: cluster.phase(second) == "Promoted", seconds=AWAY)
            await until_true(lambda: far.gauges()["tidegate_replica_leads"] == 1, seconds=AWAY)

    asyncio.run(script())


def test_an_api_server_that_takes_its_time_is_waited_for(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "slow", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.scene.agent() as node, behind_a_line(cluster) as far:
            far.line.delay_seconds = 0.2
            await until_true(lambda: names_of(node) == ["a"], seconds=AWAY)
            await until_true(lambda: far.gauges()["tidegate_replica_leads"] == 1)
            await until(lambda: cluster.phase(first) == "Promoted")

    asyncio.run(script())


def test_others_who_write_all_the_time_do_not_keep_a_revision_back(
    server: KubeServer, tmp_path: Path, quick: None
) -> None:
    """Every write of ours may meet a conflict: the Lease is replaced by version, statuses are patched."""

    async def script() -> None:
        cluster = Cluster.make(server, "storm", tmp_path)
        cluster.follow()
        async with (
            cluster.scene.agent() as node,
            behind_a_line(cluster) as far,
            storm(cluster) as strokes,
        ):
            for name, path in (("a", A), ("b", B)):
                revision = cluster.scene.repository.commit({path: deny(name)})
                await until_true(lambda: name in names_of(node), seconds=AWAY)  # noqa: B023
                await until(lambda: cluster.phase(revision) == "Promoted")  # noqa: B023
            await until_true(lambda: len(strokes) > 100, seconds=AWAY)
            await until_true(lambda: far.gauges()["tidegate_replica_leads"] == 1, seconds=AWAY)
        assert [bundle.revision for bundle in node.bundles][-1] == revision

    asyncio.run(script())


@asynccontextmanager
async def storm(cluster: Cluster) -> AsyncIterator[list[str]]:
    """Somebody who annotates the Lease and our objects without a pause."""
    api = await KubeApi.connect(cluster.server.kubeconfig)
    strokes: list[str] = []
    folder = f"/apis/coordination.k8s.io/v1/namespaces/{cluster.namespace}/leases"
    objects = f"/apis/tidegate.dev/v1alpha1/namespaces/{cluster.namespace}"

    async def strike() -> None:
        while True:
            for path in (f"{folder}/{LEASE}", f"{objects}/policyrepositories/policies"):
                with suppress(KubeRefusal):  # not there yet
                    mark = {"metadata": {"annotations": {"storm": str(len(strokes))}}}
                    await api.patch(path, mark)
                    strokes.append(path)
            await asyncio.sleep(0.01)

    try:
        async with beside(strike()):
            yield strokes
    finally:
        await api.close()


def test_an_api_server_set_back_to_a_backup_is_told_again_what_is_enforced(
    machine: KubeMachine, tmp_path: Path, quick: None
) -> None:
    async def script() -> None:
        cluster = Cluster.make(machine.server, "restored", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.scene.agent() as node, cluster.replica(port=cluster.scene.port):
            await until(lambda: cluster.status().get("lastAppliedRevision") == first)
            backup = await asyncio.to_thread(machine.back_up)
            second = cluster.scene.repository.commit({B: deny("b")})
            await until_true(lambda: names_of(node) == ["a", "b"], seconds=AWAY)
            await until(lambda: cluster.status().get("lastAppliedRevision") == second)
            await asyncio.to_thread(machine.restore, backup)
            await until(patiently(lambda: cluster.phase(second) == "Promoted"))
            await until(lambda: cluster.status().get("lastAppliedRevision") == second)
            enforced = [bundle.revision for bundle in node.bundles]
            assert first not in enforced[enforced.index(second) :]

    asyncio.run(script())


def test_numbers_that_a_backup_forgot_are_not_given_out_again(
    machine: KubeMachine, tmp_path: Path, quick: None
) -> None:
    """The successor has no state either: what agents hold is all that tells of them."""

    async def script() -> None:
        cluster = Cluster.make(machine.server, "forgotten", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.scene.agent() as node:
            async with cluster.replica("replica-a", port=cluster.scene.port):
                await until(lambda: cluster.status().get("lastAppliedRevision") == first)
            backup = await asyncio.to_thread(machine.back_up)
            async with cluster.replica("replica-b", port=cluster.scene.port):
                second = cluster.scene.repository.commit({B: deny("b")})
                await until_true(lambda: names_of(node) == ["a", "b"], seconds=AWAY)
            await asyncio.to_thread(machine.restore, backup)
            third = cluster.scene.repository.commit({A: deny("later")})
            async with cluster.replica("replica-c", port=cluster.scene.port):
                await until_true(lambda: names_of(node) == ["b", "later"], seconds=AWAY)
                await until(lambda: cluster.phase(third) == "Promoted")
        numbers = [bundle.sequence for bundle in node.bundles]
        assert numbers == sorted(numbers)
        assert second in [bundle.revision for bundle in node.bundles]

    asyncio.run(script())


def patiently(holds: Callable[[], Any]) -> Callable[[], Any]:
    """A claim about a server that may not answer yet."""

    def asked() -> Any:
        try:
            return holds()
        except (client.ApiException, OSError):
            return False

    return asked


SOAK = "1h"
CANARY = {"matchLabels": {"canary": "true"}}
STEPS: dict[str, dict[str, Any]] = {
    "Shadow": {"shadow": {"soak": SOAK}},
    "Canary": {
        "shadow": {"soak": "0s"},
        "canary": {"nodes": CANARY, "soak": SOAK},
        "gates": {"minimumFlows": 0, "minimumPods": 0, "unreportedNodes": 1},
    },
    "Wave": {
        "shadow": {"soak": "0s"},
        "waves": {"percent": [50, 100], "soak": SOAK},
        "gates": {"minimumFlows": 0, "minimumPods": 0, "unreportedNodes": 1},
    },
    "Promoted": {},
}


@pytest.mark.parametrize("step", STEPS)
def test_a_leader_killed_at_a_step_is_followed_by_one_that_skips_none(
    server: KubeServer, tmp_path: Path, quick: None, step: str
) -> None:
    """What was enforced stays, what was only tried goes through all its stages again."""

    async def script() -> None:
        cluster = Cluster.make(server, f"killed-{step.lower()}", tmp_path)
        server.kubectl("label", "node", "node-a", "canary=true")
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(rollout=STEPS[step])
        async with cluster.scene.agent(capabilities=("l4", "shadow")) as node:
            async with behind_a_line(cluster) as far:
                await until(lambda: cluster.phase(first) == "Promoted")
                second = cluster.scene.repository.commit({B: deny("b")})
                await until(lambda: cluster.phase(second) == step)
                before = len(node.bundles)
                far.line.cut()  # as a killed process, it gives nothing up
            async with cluster.replica("replica-b", port=cluster.scene.port):
                await until_true(lambda: len(node.bundles) > before, seconds=AWAY)
                await until(lambda: cluster.phase(second) in ("Shadow", step))
                check_enforced(node, first, second, step)

    asyncio.run(script())


def test_a_successor_that_never_reached_git_passes_on_what_it_was_told(
    server: KubeServer, tmp_path: Path
) -> None:
    """Had it written that nothing is enforced, the next would take what was only tried for the first ever."""

    async def script() -> None:
        cluster = Cluster.make(server, "passed-on", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(rollout=STEPS["Shadow"])
        async with cluster.scene.agent(capabilities=("l4", "shadow")) as node:
            async with cluster.replica("replica-a", port=cluster.scene.port):
                await until(lambda: cluster.status().get("lastAppliedRevision") == first)
                second = cluster.scene.repository.commit({B: deny("b")})
                await until(lambda: cluster.phase(second) == "Shadow")
            cluster.follow(rollout=STEPS["Shadow"], url=f"{cluster.scene.url}-away")
            async with cluster.replica("replica-b", port=cluster.scene.port):
                await until(lambda: cluster.reason() == "GitOperationFailed")
                assert cluster.status()["lastAppliedRevision"] == first
            before = len(node.bundles)
            cluster.follow(rollout=STEPS["Shadow"])
            async with cluster.replica("replica-c", port=cluster.scene.port):
                await until_true(lambda: len(node.bundles) > before, seconds=AWAY)
                await until(lambda: cluster.phase(second) == "Shadow")
                check_enforced(node, first, second, "Shadow")

    asyncio.run(script())


def check_enforced(node: Node, first: str, second: str, step: str) -> None:
    """The stable revision is the one that had been promoted, before and after."""
    expected = [first, second] if step == "Promoted" else [first]
    revisions = [bundle.revision for bundle in node.bundles]
    assert list(dict.fromkeys(revisions)) == expected
    assert revisions[-1] == expected[-1]
