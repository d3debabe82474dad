"""A leader that cannot reach the API server takes back what it published, and does nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from netpolicy import kube_watch
from reconciler.cluster import lease, lease_keeper
from reconciler.in_cluster import reporter, run
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.request_file import RolloutFile
from tests.cluster.test_failures import AWAY, behind_a_line, patiently
from tests.cluster.test_reconciler import A, B, until
from tests.support.kube_replicas import Cluster
from tests.support.kube_server import KubeMachine, KubeServer
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import deny, names_of

pytestmark = pytest.mark.cluster

PROGRAM = Path(sys.executable).with_name("tidegate")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lease lost and taken in seconds, the order of its three times as it is."""
    monkeypatch.setattr(lease_keeper, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 1.0)
    monkeypatch.setattr(lease, "DURATION_SECONDS", 2)
    monkeypatch.setattr(kube_watch, "LONGEST_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(reporter, "RETRY_SECONDS", 0.5)


async def on_the_leaders_node(cluster: Cluster, *words: str) -> tuple[int, str]:
    """`tidegate rollout` as it is run inside the leader's container: exit code, and what it says."""
    state = cluster.scene.root / "state-replica-a"
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "rollout", *words, "--state-dir", state),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def two_promoted(cluster: Cluster) -> tuple[str, str]:
    """A revision, and another that was enforced after it."""
    first = cluster.scene.repository.commit({A: deny("a")})
    await until(lambda: cluster.status().get("lastAppliedRevision") == first, seconds=AWAY)
    second = cluster.scene.repository.commit({B: deny("b")})
    await until(lambda: cluster.status().get("lastAppliedRevision") == second, seconds=AWAY)
    await until(lambda: cluster.phase(second) == "Promoted", seconds=AWAY)
    return first, second


def test_an_undo_holds_while_the_api_server_and_git_are_dead_and_is_told_when_it_is_back(
    machine: KubeMachine, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(machine.server, "undone-by-hand", tmp_path)
        cluster.follow()
        async with (
            cluster.scene.agent() as node,
            cluster.replica(port=cluster.scene.port) as leader,
        ):
            first, second = await two_promoted(cluster)
            before = node.bundles[-1]
            term = leader.replica._keeper.last_term
            cluster.scene.repository.path.rename(tmp_path / "away.git")
            await asyncio.to_thread(machine.stop)
            await until_true(lambda: leader.replica._keeper.term is None, seconds=AWAY)
            said = await on_the_leaders_node(cluster, "undo", "--reason", "it cuts checkout")
            assert said[0] == 0, said
            await until_true(lambda: names_of(node) == ["a"], seconds=AWAY)
            undone = node.bundles[-1]
            assert undone.sequence > before.sequence
            assert undone.digest == next(
                one.digest for one in node.bundles if one.revision == first
            )
            await asyncio.to_thread(machine.start)
            await until(patiently(lambda: cluster.phase(second) == "Quarantined"), seconds=AWAY)
            await until(lambda: cluster.status().get("lastAppliedRevision") == first, seconds=AWAY)
            history = cluster.rollout_status(second)["history"]
            assert "it cuts checkout" in {one.get("reason") for one in history}
            await until_true(lambda: leader.replica._keeper.term is not None, seconds=AWAY)
            assert term is not None
            assert leader.replica._keeper.term.token == term.token
        enforced = [one.revision for one in node.bundles]
        assert set(enforced[enforced.index(second) + 1 :]) == {first}

    asyncio.run(script())


def test_what_was_undone_without_the_api_server_is_not_brought_back_by_a_successor(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no state, the objects call the bad revision enforced, and only an agent knows better: one that
    comes when the successor has announced that revision already."""

    monkeypatch.setattr(run, "LOOK_ELSEWHERE_SHARE", 1.0)

    async def script(logs: Sequence[Mapping[str, object]]) -> None:
        cluster = Cluster.make(server, "learnt", tmp_path)
        cluster.follow()
        async with behind_a_line(cluster) as far, cluster.scene.agent() as node:
            first, second = await two_promoted(cluster)
            far.line.cut()
            await until_true(lambda: far.replica._keeper.term is None, seconds=AWAY)
            # Agents are let go, in case that another leads, and come back as none does.
            await until_true(
                lambda: any(one["event"] == "agent_disconnected" for one in logs), seconds=AWAY
            )
            RolloutFile(tmp_path / "state-replica-a").ask(
                Request(action=Action.ROLLBACK, revision=second, token=f"{second}/1", by="ann")
            )
            await until_true(lambda: names_of(node) == ["a"], seconds=AWAY)
            before = node.bundles[-1].sequence
            assert cluster.phase(second) == "Promoted", "nobody could be told"
        async with cluster.replica("replica-b", port=cluster.scene.port) as successor:
            await until_true(lambda: successor.replica._sequence() > 0, seconds=AWAY)
            async with cluster.scene.agent() as node:
                newest = lambda: max((one.sequence for one in node.bundles), default=0)  # noqa: E731
                await until_true(lambda: newest() > before, seconds=AWAY)
                await until(lambda: cluster.phase(second) == "Quarantined", seconds=AWAY)
                await until(
                    lambda: cluster.status().get("lastAppliedRevision") == first, seconds=AWAY
                )
                third = cluster.scene.repository.commit({B: deny("c")})
                await until(lambda: cluster.phase(third) == "Promoted", seconds=AWAY)
            assert {one.revision for one in node.bundles} == {first, third}
            events = [one["event"] for one in cluster.rollout_status(second)["history"]]
            assert events[0] == "Learnt"

    with capture_logs() as logs:
        asyncio.run(script(logs))
