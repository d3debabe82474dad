"""What policies would do that are not enforced: reported by nodes, shown to people, judged by no gate."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netpolicy.evidence import Cause, NodeEvidence, Role
from reconciler.rollout.machine import Phase
from tests.support.rollout_scene import Watcher, cut
from tests.support.rollout_stage import QUICK, Stage, play

pytestmark = pytest.mark.slow


def preview_of(one: Watcher) -> NodeEvidence:
    """A report on the policies of what this node enforces."""
    return NodeEvidence(
        node=one.name,
        candidate_digest=one.enforced,
        generation_digest="e" * 64,
        role=Role.SHADOW,
        flows=12,
        pods=2,
        differences=(cut(4), replace(cut(1, port=80), cause=Cause.WOULD_ALLOW)),
    )


def test_what_is_previewed_is_summed_up_for_people_and_holds_nothing(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK)
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            for one in stage.nodes:
                one.node.previewed = preview_of(one)
            preview: dict[str, Any] = {}
            async with asyncio.timeout(30):
                while preview.get("flows") != 24:
                    _, text = await stage.tidegate("status", "-o", "json")
                    preview = json.loads(text)["preview"] or {}
            assert (preview["flows"], preview["pods"]) == (24, 4)
            assert [one["count"] for one in preview["cut"]] == [8]
            assert [one["wouldBe"] for one in preview["others"]] == ["allowed"]
            _, text = await stage.tidegate("status")
            assert "where they are not enforced: 24 flows of 4 pods judged by them" in text
            assert "would be cut if they were:" in text

            revision = stage.commit("b")
            await stage.until(revision, Phase.PROMOTED)  # no gate asked what is not enforced
            assert "dry-run" not in (await stage.tidegate("status"))[1]  # of this bundle: nothing

    play(script, tmp_path)
