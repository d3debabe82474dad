"""A revision's way through its stages: real Git, real signatures, real streams, made-up traffic."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pygit2
import pytest
import yaml
from click.testing import CliRunner

from netpolicy.evidence import Role
from netpolicy.status import ConditionType
from reconciler.cli import main
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state import judgements
from reconciler.state.database import Database
from reconciler.state.rollouts import RolloutStore, rollout_of
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, deny, names_of
from tests.support.rollout_scene import CANARY_LABEL, INVENTORY, Watcher, cut, watching
from tests.support.wire import wired

A, SETTINGS, INTENTS = "policies/shop/a.yaml", "tidegate.yaml", "tests/shop.yaml"
CANARY = {"nodes": {"matchLabels": CANARY_LABEL}, "soak": "0s"}
QUICK: dict[str, Any] = {"shadow": {"soak": "0s"}}


@dataclass
class Stage:
    """A running reconciler with two reporting nodes, and what a test asks of them."""

    scene: Scene
    root: Path
    nodes: list[Watcher] = field(default_factory=list)

    def commit(self, name: str, **more: Any) -> str:
        """Commit a policy of this name; `rollout` and `intents` replace those before."""
        files = {A: deny(name)}
        if "rollout" in more:
            files[SETTINGS] = json.dumps({"rollout": more["rollout"]})
        if "intents" in more:
            files[INTENTS] = json.dumps({"intents": more["intents"]})
        return self.scene.repository.commit(files)

    def rollout(self, revision: str) -> Rollout | None:
        """Where a revision is, as it was saved."""
        if not (self.scene.state / "state.db").exists():
            return None
        database = Database.open_read_only(self.scene.state)
        try:
            return rollout_of(database, revision)
        finally:
            database.close()

    async def until(self, revision: str, phase: Phase) -> Rollout:
        """Wait for a revision to get there."""
        await until(lambda: (found := self.rollout(revision)) and found.phase is phase)
        found = self.rollout(revision)
        assert found is not None
        return found

    async def all_enforce(self, name: str) -> None:
        """Wait until every node has this policy in its stable bundle."""
        await until(lambda: all(names_of(one.node) == [name] for one in self.nodes))

    async def tidegate(self, *words: str) -> tuple[int, str]:
        """Run `tidegate rollout …` beside the reconciler."""
        command = ["rollout", *words, "--state-dir", str(self.scene.state)]
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
        return result.exit_code, result.output

    def entries(self, revision: str) -> list[str]:
        """What happened to a revision, in order."""
        database = Database.open_read_only(self.scene.state)
        try:
            history = RolloutStore(database).history()
        finally:
            database.close()
        return [entry.phase for entry in reversed(history) if entry.revision == revision]


@asynccontextmanager
async def nodes_of(scene: Scene, *, first_port: int = 0) -> AsyncIterator[list[Watcher]]:
    async with AsyncExitStack() as stack:
        first = watching(scene, "node-a", CANARY_LABEL, port=first_port)
        yield [
            await stack.enter_async_context(first),
            await stack.enter_async_context(watching(scene, "node-b")),
        ]


def play(script: Callable[[Stage], Awaitable[None]], root: Path) -> None:
    async def run() -> None:
        scene = Scene(root, nodes=("node-a", "node-b"))
        scene.inventory.write_text(INVENTORY)
        async with nodes_of(scene) as nodes:
            await script(Stage(scene, root, nodes))

    asyncio.run(run())


def test_a_good_revision_goes_from_shadow_to_canary_to_waves_to_everywhere(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        waves = {"percent": [1, 99], "soak": "0s"}
        stage.commit("a", rollout=QUICK | {"canary": CANARY, "waves": waves, "confirm": "30s"})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            second = stage.commit("b")
            await stage.until(second, Phase.PROMOTED)
            await stage.all_enforce("b")
            phases = [p for p in stage.entries(second) if p != "Inconclusive"]
            assert phases == ["Shadow", "Canary", "Wave 1%", "Wave 99%", "Published", "Promoted"]
            canary, other = stage.nodes
            assert canary.roles[:2] == [Role.SHADOW, Role.ENFORCING]
            assert other.roles[0] is Role.SHADOW
            terms = canary.node.channels[-1].terms
            assert (terms.candidate, terms.confirm_seconds) == (None, 30)
            assert terms.canary_nodes == (("canary", "true"),)

    play(script, tmp_path)


def revert_of(stage: Stage, revision: str) -> pygit2.Commit | None:
    """The commit at the branch that undoes a revision."""
    git = stage.scene.repository.git
    reference = git.references.get(f"refs/heads/tidegate/revert-{revision[:12]}")
    return None if reference is None else git[reference.target].peel(pygit2.Commit)


def tree_of(stage: Stage, revision: str) -> pygit2.Oid:
    return stage.scene.repository.git[revision].peel(pygit2.Commit).tree.id


def test_flows_that_would_be_cut_take_the_revision_back_for_good(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        asking = QUICK | {"revertBranch": "tidegate/revert-{revision}"}
        first = stage.commit("a", rollout=asking)
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            before = stage.nodes[0].enforced
            stage.nodes[1].differences = (cut(),)
            bad = stage.commit("b")
            await stage.until(bad, Phase.QUARANTINED)
            await until(lambda: revert_of(stage, bad))
            pushed = revert_of(stage, bad)
            assert pushed is not None
            assert (pushed.tree.id, str(pushed.parent_ids[0])) == (tree_of(stage, first), bad)
            assert "shop/prometheus → shop/web tcp/9090" in pushed.message
            condition = await stage.scene.until_reason("RolledBack")
            assert "shop/prometheus → shop/web tcp/9090" in condition.message
            assert stage.scene.condition(ConditionType.STALLED) is not None
            code, text = await stage.tidegate("status")
            assert code == 1
            assert "shop/prometheus" in text
            assert "shop/b ingressDeny[0]" in text
            assert stage.nodes[0].enforced == before
        stage.nodes[1].differences = ()
        async with stage.scene.reconciling() as again:  # a restart and polls do not bring it back
            await until(lambda: again.judged == bad)
            await until(lambda: stage.nodes[0].node.receiver.status().connected)
            assert [one.node.bundles[-1].revision for one in stage.nodes] == [first, first]
            good = stage.commit("c")
            await stage.until(good, Phase.PROMOTED)
            await stage.all_enforce("c")

    play(script, tmp_path)


def test_a_denial_that_an_intent_declares_is_expected(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        intent = {
            "name": "prometheus keeps away",
            "from": "app=prometheus,ns=shop",
            "to": "world",
            "port": 9090,
            "expect": "allow",
        }
        stage.commit("a", rollout=QUICK, intents=[intent])
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            isolate = deny("b").replace("fromEntities: [world]", "fromEndpoints: [{}]")
            meant = intent | {"to": "app=web,ns=shop", "expect": "deny"}
            stage.nodes[1].differences = (cut(),)
            files = {A: isolate, INTENTS: json.dumps({"intents": [meant]})}
            revision = stage.scene.repository.commit(files)
            await stage.until(revision, Phase.PROMOTED)

    play(script, tmp_path)


def test_a_broken_intent_refuses_the_revision_at_the_intents_place(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a")
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            broken = {"name": "web asks itself", "from": "app=web,ns=shop", "to": "app=web,ns=shop"}
            stage.commit("b", intents=[broken | {"port": 80, "expect": "allow"}])
            await stage.scene.until_reason("ValidationFailed")
            judgement = stage.scene.judgement()
            assert judgement is not None
            (found,) = judgement.diagnostics
            assert (found.code, found.place.path) == ("TG403", INTENTS)
            assert names_of(stage.nodes[0].node) == ["a"]

    play(script, tmp_path)


def test_an_intent_about_a_pod_that_comes_later_is_held_again_when_it_is_there(
    tmp_path: Path,
) -> None:
    async def script(stage: Stage) -> None:
        about = {"name": "late is reached", "from": "shop/web", "to": "shop/late", "port": 80}
        stage.commit("a", intents=[about | {"expect": "allow"}])
        async with stage.scene.reconciling():
            await stage.scene.until_reason("ValidationFailed")
            late = INVENTORY.splitlines()[-1].replace("name: web", "name: late")
            late = late.replace("10.1.0.1", "10.1.0.9").replace("veth1", "veth9")
            allowed = deny("a") + "  enableDefaultDeny: {ingress: false}\n"
            stage.scene.repository.commit({A: allowed})
            await stage.scene.until_reason("ValidationFailed")
            assert stage.nodes[0].node.bundles == []
            stage.scene.inventory.write_text(f"{INVENTORY}{late}\n")
            await stage.all_enforce("a")

    play(script, tmp_path)


def test_without_traffic_a_revision_is_inconclusive_and_stops(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK | {"inconclusive": "2s"})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            for one in stage.nodes:
                one.flows = 0
            revision = stage.commit("b")
            await stage.until(revision, Phase.INCONCLUSIVE)
            assert "0 flows seen of 1 needed" in (await stage.tidegate("status"))[1]
            rollout = await stage.until(revision, Phase.QUARANTINED)
            assert rollout.reason.startswith("inconclusive for too long")
            assert names_of(stage.nodes[0].node) == ["a"]

    play(script, tmp_path)


def test_an_agent_that_refuses_the_candidate_takes_it_back(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK | {"shadow": {"soak": "1h"}})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            stage.nodes[1].error = "its map is full"
            rollout = await stage.until(stage.commit("b"), Phase.QUARANTINED)
            assert rollout.reason == "node-b: its map is full"

    play(script, tmp_path)


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
        async with wired(scene.port) as wire, nodes_of(scene, first_port=wire.port) as nodes:
            stage = Stage(scene, tmp_path, nodes)
            node = nodes[0].node

            async def cut_answers() -> None:
                """The flip to what was the candidate cuts them, after which the node can still speak."""
                held_a_candidate = node.channels[-1].candidate is not None
                wire.answers_are_cut = held_a_candidate and not wire.answers_are_cut

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


@pytest.mark.slow
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
