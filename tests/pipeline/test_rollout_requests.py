"""What people ask of a rollout, by command and by annotation; what a newer commit does to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from netpolicy.evidence import Role
from reconciler.rollout.machine import Phase
from reconciler.state import judgements
from reconciler.state.database import Database
from tests.support.push_fleet import until
from tests.support.reconciler_scene import deny, names_of
from tests.support.rollout_scene import cut
from tests.support.rollout_stage import CANARY, QUICK, A, Stage, play

pytestmark = pytest.mark.slow


def test_undo_works_without_git_and_gives_back_the_same_bytes(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        first = stage.commit("a", rollout=QUICK)
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            before = stage.nodes[0].node.bundles[-1]
            second = stage.commit("b")
            await stage.until(second, Phase.PROMOTED)
        shutil.move(stage.scene.repository.path, stage.root / "elsewhere.git")
        async with stage.scene.reconciling():
            await stage.scene.until_reason("GitOperationFailed")
            assert (await stage.tidegate("undo", "--reason", "checkout fails"))[0] == 0
            await stage.all_enforce("a")
            after = stage.nodes[0].node.bundles[-1]
            assert (after.digest, after.units) == (before.digest, before.units)
            assert after.revision == first
            assert after.sequence > before.sequence
            history = (await stage.tidegate("history"))[1]
            assert "checkout fails" in history
            await stage.until(second, Phase.QUARANTINED)
        shutil.move(stage.root / "elsewhere.git", stage.scene.repository.path)
        async with stage.scene.reconciling() as again:
            await until(lambda: again.judged == second)
            assert names_of(stage.nodes[0].node) == ["a"]
            code, _ = await stage.tidegate("undo", "--to", second[:12])
            assert code == 0
            await stage.all_enforce("b")
            restored = stage.history(second)[-1]
            assert (restored.event, restored.phase) == ("Restored", "Promoted")

    play(script, tmp_path)


def test_a_manual_promotion_by_annotation_is_handled_once(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK | {"canary": CANARY, "promotion": "manual"})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            revision = stage.commit("b")
            await until(lambda: stage.rollout(revision))
            file = stage.scene.state / "rollout.yaml"
            await until(lambda: revision in file.read_text())
            held = yaml.safe_load(file.read_text())
            held["metadata"]["annotations"] = {"tidegate.dev/promote": f"{revision}/now"}
            file.write_text(yaml.safe_dump(held))
            await until(lambda: (found := stage.rollout(revision)) and found.stage == 1)

            def status() -> dict[str, Any]:
                return yaml.safe_load(file.read_text())["status"]

            await until(lambda: status()["lastHandled"] == {"promote": f"{revision}/now"})
            assert status()["answers"] == {"promote": "done"}
        async with stage.scene.reconciling():  # the same token asks for nothing more
            await until(lambda: stage.nodes[0].node.receiver.status().connected)
            await until(lambda: Role.ENFORCING in stage.nodes[0].roles)
            assert (await stage.tidegate("pause"))[0] == 0
            assert (await stage.until(revision, Phase.PAUSED)).stage == 1

    play(script, tmp_path)


def test_a_revision_that_deletes_more_than_the_budget_waits_for_approval(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        more = "policies/shop/more.yaml"
        stage.scene.repository.commit({more: deny("more")})
        first = stage.commit("a", rollout=QUICK | {"deletionBudget": 0})
        async with stage.scene.reconciling():
            await stage.until(first, Phase.PROMOTED)
            revision = stage.scene.repository.commit({}, delete=[more])
            rollout = await stage.until(revision, Phase.WAITING)
            assert "deletes 1 of 2 policies" in rollout.reason
            await stage.scene.until_reason("Succeeded")
        async with stage.scene.reconciling() as again:
            await until(lambda: again.judged == revision)
            assert (await stage.tidegate("approve", "--reason", "they are unused"))[0] == 0
            await stage.until(revision, Phase.PROMOTED)
            await stage.all_enforce("a")
            approved = [one for one in stage.history(revision) if one.event == "Approve"]
            assert [one.reason for one in approved] == ["they are unused"]

    play(script, tmp_path)


def test_after_a_rollback_a_forced_branch_still_needs_the_operators_word(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        first = stage.commit("a", rollout=QUICK)
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            stage.nodes[0].differences = (cut(),)
            await stage.until(stage.commit("b"), Phase.QUARANTINED)
            stage.nodes[0].differences = ()
            stage.scene.repository.force(first)  # as if the bad commit had never been
            forced = stage.commit("c")
            await stage.scene.until_reason("HistoryDiverged")
            assert stage.rollout(forced) is None
            database = Database.open(stage.scene.state)
            judgements.acknowledge(database, forced, by="test", now=0.0)
            database.close()
            await stage.until(forced, Phase.PROMOTED)
            await stage.until(stage.commit("d"), Phase.PROMOTED)  # and no word is needed after it

    play(script, tmp_path)


def test_a_newer_commit_supersedes_what_is_on_its_way(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK | {"shadow": {"soak": "1h"}})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            second = stage.commit("b")
            await stage.until(second, Phase.SHADOW)
            third = stage.commit("c")
            await stage.until(second, Phase.SUPERSEDED)
            await stage.until(third, Phase.SHADOW)
            stage.scene.repository.commit({A: "kind: Nonsense"})
            await stage.scene.until_reason("ValidationFailed")
            code, _ = await stage.tidegate("abort")
            assert code == 0
            await until(lambda: stage.nodes[0].node.channels[-1].candidate is None)

    play(script, tmp_path)
