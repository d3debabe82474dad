"""A revision's way through its stages, and the gates on it: real Git, real streams, made-up traffic."""

from __future__ import annotations

import json
from pathlib import Path

import pygit2
import pytest

from netpolicy.evidence import Role
from netpolicy.status import ConditionType
from reconciler.rollout.machine import Phase
from tests.support.push_fleet import until
from tests.support.reconciler_scene import deny, names_of
from tests.support.rollout_scene import INVENTORY, cut
from tests.support.rollout_stage import CANARY, INTENTS, QUICK, A, Stage, play

pytestmark = pytest.mark.slow


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
