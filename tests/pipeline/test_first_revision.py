"""A reconciler without state asks agents what they enforce before it takes a commit for the first ever."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from netpolicy.status import ConditionType
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.client import connect
from reconciler.state import judgements
from reconciler.state.database import Database
from tests.support.push_fleet import config_of, until
from tests.support.reconciler_scene import Scene, deny, names_of

pytestmark = pytest.mark.slow

A, SETTINGS = "policies/shop/a.yaml", "tidegate.yaml"
OBSERVED_FIRST = "rollout: {shadow: {soak: 1h}}\n"
LONG_SECONDS = 600.0
"""Longer than any test waits: whoever waits for it to pass fails."""


def play(script: Callable[[Scene], Awaitable[None]], root: Path) -> None:
    asyncio.run(script(Scene(root, agents_patience_seconds=LONG_SECONDS)))  # type: ignore[arg-type]


async def enforced_then_lost(scene: Scene, files: dict[str, str]) -> str:
    """A commit that node-a enforces, of which the reconciler knows nothing any more."""
    commit = scene.repository.commit(files)
    async with scene.agent() as node, scene.reconciling():
        await until(lambda: names_of(node))
    shutil.rmtree(scene.state)
    return commit


def acknowledge(scene: Scene, commit: str) -> None:
    """What `tidegate acknowledge` does."""
    database = Database.open(scene.state)
    judgements.acknowledge(database, commit, by="test", now=0.0)
    database.close()


def test_a_commit_is_staged_although_the_state_that_knew_the_one_before_is_lost(
    tmp_path: Path,
) -> None:
    async def script(scene: Scene) -> None:
        first = await enforced_then_lost(scene, {A: deny("a"), SETTINGS: OBSERVED_FIRST})
        second = scene.repository.commit({A: deny("b")})
        async with scene.reconciling() as reconciler:
            await until(lambda: scene.condition(ConditionType.RECONCILING))
            waits = scene.condition(ConditionType.RECONCILING)
            assert waits is not None
            assert "each node's agent has said what it enforces" in waits.message
            assert not reconciler.sequence
            async with scene.agent() as node:
                await until(lambda: reconciler.judged == second)
                await until(lambda: node.channels and node.channels[-1].terms.candidate)
                assert reconciler.stable == first
                assert {bundle.revision for bundle in node.bundles} == {first}
                candidate = node.channels[-1].terms.candidate
                assert candidate is not None
                assert candidate.commit == second

    play(script, tmp_path)


def test_what_left_the_branch_is_replaced_only_when_a_person_says_so(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        root = scene.repository.commit({SETTINGS: OBSERVED_FIRST})
        await enforced_then_lost(scene, {A: deny("a")})
        scene.repository.force(root)
        other = scene.repository.commit({A: deny("other")})
        async with scene.agent() as node, scene.reconciling() as reconciler:
            stopped = await scene.until_reason("HistoryDiverged")
            assert f"tidegate acknowledge {other}" in stopped.message
            assert not reconciler.sequence
            acknowledge(scene, other)
            await until(lambda: names_of(node) == ["other"])

    play(script, tmp_path)


def test_agents_that_hold_what_they_cannot_show_get_nothing_at_once(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        commit = scene.repository.commit({A: deny("a")})
        async with scene.reconciling() as reconciler:
            async with connect(config_of(scene.keys, tmp_path / "old", scene.port)) as stub:
                hello = push_pb2.Hello(instance="old", sequence=7, held=b"not ours")
                call = stub.Announce()
                await call.write(push_pb2.AgentMessage(hello=hello))
                stopped = await scene.until_reason("HistoryDiverged")
                assert "agents hold publication 7" in stopped.message
                assert not reconciler.sequence
            acknowledge(scene, commit)
            await until(lambda: reconciler.stable == commit)

    play(script, tmp_path)
