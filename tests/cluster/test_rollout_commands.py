"""`tidegate rollout` in a cluster: it reads PolicyRollout objects and annotates them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.kube_replicas import Cluster
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import deny, names_of

pytestmark = pytest.mark.cluster

A, B = "policies/shop/a.yaml", "policies/shop/b.yaml"

PROGRAM = Path(sys.executable).with_name("tidegate")


@dataclass(frozen=True)
class Result:
    """What a command said, on either of its outputs."""

    exit_code: int
    output: str


Command = Callable[..., Awaitable[Result]]


def commands_for(cluster: Cluster) -> Command:
    """`tidegate rollout`, beside the running replica."""
    place = ("--kubeconfig", str(cluster.server.kubeconfig), "--namespace", cluster.namespace)

    async def run(*words: str) -> Result:
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("rollout", *words, *place),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return Result(process.returncode, output.decode())

    return run


async def until_phase(cluster: Cluster, revision: str, phase: str) -> None:
    """Wait until the revision's object says that it is there."""
    async with asyncio.timeout(60):
        while await asyncio.to_thread(cluster.phase, revision) != phase:
            await asyncio.sleep(0.1)


def test_the_commands_see_and_move_a_rollout_of_a_cluster(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "commands", tmp_path)
        run = commands_for(cluster)
        assert "has no PolicyRepository" in (await run("status")).output
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(rollout={"shadow": {"soak": "1h"}})
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent() as node:
            await until_phase(cluster, first, "Promoted")
            second = cluster.scene.repository.commit({B: deny("b")})
            await until_phase(cluster, second, "Shadow")
            said = json.loads((await run("status", "-o", "json")).output)
            assert (said["stable"], said["stages"], said["stage"]) == (first, ["shadow"], 0)
            assert 3500 < said["soakSecondsLeft"] <= 3600

            paused = await run("pause", "--reason", "lunch")
            assert (paused.exit_code, paused.output) == (0, f"done; {second[:12]} is Paused\n")
            again = await run("pause")
            assert (again.exit_code, again.output) == (
                1,
                f"{second[:12]}: refused: it is Paused\n",
            )
            shown = (await run("status")).output
            assert f"revision  {second[:12]}  Paused  ([shadow] → everywhere)" in shown
            assert "because   lunch" in shown

            assert (await run("promote")).exit_code == 0
            await until_true(lambda: names_of(node) == ["a", "b"])
            await until_phase(cluster, second, "Promoted")
            undone = await run("undo", "--to", first[:9], "--reason", "checkout fails")
            assert undone.exit_code == 0
            await until_true(lambda: names_of(node) == ["a"])
            await until_phase(cluster, second, "Quarantined")
            assert (await run("status")).exit_code == 1
            told = (await run("history")).output
            assert "Pause → Paused by" in told
            assert told.index("checkout fails") < told.index("lunch")  # the newest first
        unanswered = await run("undo", "--wait", "0")
        assert (unanswered.exit_code, unanswered.output[:33]) == (
            2,
            "tidegate: no answer in 0 seconds:",
        )
        marks = cluster.rollouts()[first]["metadata"]["annotations"]
        assert marks["tidegate.dev/rollback"].startswith(f"{first}/")  # it stands there

    asyncio.run(script())
