"""Rollouts that lose the way to Git, a node, or the reconciler itself."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

import pytest

from netpolicy.evidence import Role
from reconciler.rollout.machine import Phase
from tests.support.cut_line import cut_line
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, names_of
from tests.support.rollout_scene import INVENTORY
from tests.support.rollout_stage import CANARY, QUICK, Stage, nodes_of, play

pytestmark = pytest.mark.slow


class GitRoad:
    """The way to the repository: open, or cut as by a policy."""

    def __init__(self, stage: Stage) -> None:
        self._here = stage.scene.repository.path
        self._away = stage.root / "elsewhere.git"

    async def turn(self) -> None:
        """Cut it if it is open, open it if it is cut."""
        here, there = self._here, self._away
        shutil.move(*((here, there) if here.exists() else (there, here)))


def test_a_flip_that_cuts_the_way_to_git_is_taken_back_without_git(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        confirming = QUICK | {"canary": CANARY, "promotion": "manual", "confirm": "2s"}
        stage.commit("a", rollout=confirming)
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            bad = stage.commit("b")
            await stage.until(bad, Phase.SHADOW)
            await until(lambda: stage.nodes[0].roles == [Role.SHADOW])
            # Cut by the flip, before anything is said of it; open again by the flip back.
            stage.nodes[0].node.before_apply = GitRoad(stage).turn
            assert (await stage.tidegate("promote"))[0] == 0
            rollout = await stage.until(bad, Phase.QUARANTINED)
            assert "Git has not answered" in rollout.reason
            await stage.scene.until_reason("RolledBack")
            assert names_of(stage.nodes[0].node) == ["a"]

    play(script, tmp_path)


def test_git_that_was_away_before_the_flip_holds_and_takes_nothing_back(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK | {"promotion": "manual", "confirm": "1s"})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            revision, road = stage.commit("b"), GitRoad(stage)
            await stage.until(revision, Phase.SHADOW)
            await road.turn()
            await stage.scene.until_reason("GitOperationFailed")
            assert (await stage.tidegate("promote"))[0] == 0
            await stage.all_enforce("b")
            await asyncio.sleep(1.5)  # longer than the confirmation would be waited for
            assert (await stage.until(revision, Phase.PUBLISHED)).sequence
            await road.turn()
            await stage.until(revision, Phase.PROMOTED)

    play(script, tmp_path)


def test_a_node_that_goes_back_after_the_promotion_takes_the_revision_back(tmp_path: Path) -> None:
    async def run() -> None:
        scene = Scene(tmp_path, nodes=("node-a", "node-b"))
        scene.inventory.write_text(INVENTORY)
        async with cut_line(scene.port) as line, nodes_of(scene, first_port=line.port) as nodes:
            stage = Stage(scene, tmp_path, nodes)
            node = nodes[0].node

            async def cut_answers() -> None:
                """The flip to what was the candidate cuts them, after which the node can still speak."""
                held_a_candidate = node.channels[-1].candidate is not None
                line.answers_are_lost = held_a_candidate and not line.answers_are_lost

            stage.commit("a", rollout=QUICK | {"confirm": "2s"})
            async with scene.reconciling():
                await stage.all_enforce("a")
                node.before_apply = cut_answers
                lethal = stage.commit("b")
                await stage.until(lethal, Phase.PROMOTED)
                rollout = await stage.until(lethal, Phase.QUARANTINED)
                assert rollout.reason.startswith("node-a: lost its reconciler")
                await stage.all_enforce("a")

    asyncio.run(run())


def test_kills_at_any_moment_of_a_rollout_lose_no_step(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        waves = {"percent": [50], "soak": "1s"}
        stage.commit("a", rollout={"shadow": {"soak": "1s"}, "canary": CANARY, "waves": waves})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
        revision = stage.commit("b")
        for pause in (0.9, 1.3, 1.7, 2.1):
            program = stage.scene.start_program()
            await asyncio.sleep(pause)  # somewhere in its start, a stage, or a signing
            program.send_signal(signal.SIGKILL)
            await asyncio.to_thread(program.wait)
        async with stage.scene.reconciling():
            await stage.until(revision, Phase.PROMOTED)
            await stage.all_enforce("b")
        for one in stage.nodes:
            sequences = [bundle.sequence for bundle in one.node.bundles]
            assert sequences == sorted(sequences)

    play(script, tmp_path)
