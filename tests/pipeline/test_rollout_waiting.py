"""What holds a rollout or stops it, as a person meets it: windows, a pause that ends, worse answers."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from netpolicy.evidence import AnswerCounts, Role
from reconciler.rollout.machine import Phase
from tests.support.push_fleet import until
from tests.support.rollout_stage import CANARY, QUICK, Stage, play

pytestmark = pytest.mark.slow

PROGRAM = Path(sys.executable).with_name("tidegate")


async def tidegate_rollout(stage: Stage, *words: str) -> tuple[int, str]:
    """The command as a process of its own: exit code, and what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(PROGRAM, "rollout", *words, "--state-dir", stage.scene.state),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def is_watched(stage: Stage, revision: str) -> None:
    """Wait until nodes were told of it; whether they answered in time is another matter."""
    await until(lambda: (found := stage.rollout(revision)) and found.sequence)


def after(entries: list[str], entry: str) -> list[str]:
    """What came behind an entry, if that is there."""
    return entries[entries.index(entry) :] if entry in entries else []


def test_a_commit_outside_the_windows_waits_says_so_and_can_be_promoted(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        then = datetime.now(UTC) + timedelta(days=3)
        minute = {"days": [f"{then:%a}"], "from": "00:00", "to": "00:01"}
        first = stage.commit("a", rollout=QUICK | {"windows": [minute]})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            revision = stage.commit("b")
            await stage.until(revision, Phase.WAITING)
            code, text = await tidegate_rollout(stage, "status")
            assert code == 0
            assert "because   outside the rollout windows" in text
            assert f"not before {then:%a %Y-%m-%d} 00:00" in text
            assert stage.nodes[0].node.bundles[-1].revision == first
            await tidegate_rollout(stage, "promote", "--reason", "it cannot wait")
            await until(lambda: (found := stage.rollout(revision)) and found.stage == 0)
            code, text = await tidegate_rollout(stage, "history", "-o", "json")
            said = {one["reason"] for one in json.loads(text) if one["event"] == "Promote"}
            assert said == {"it cannot wait"}

    play(script, tmp_path)


def test_a_pause_ends_as_the_settings_say(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        pausing = {"promotion": "manual", "pauseExpiry": {"after": "1s", "then": "resume"}}
        stage.commit("a", rollout=QUICK | pausing)
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            then = {"pauseExpiry": {"after": "1s", "then": "abort"}}
            resumed = stage.commit("b", rollout=QUICK | {"promotion": "manual"} | then)
            await is_watched(stage, resumed)
            await tidegate_rollout(stage, "pause", "--reason", "lunch")
            await until(lambda: "Shadow" in after(stage.entries(resumed), "Paused"))
            await tidegate_rollout(stage, "promote")
            await stage.until(resumed, Phase.PROMOTED)
            aborted = stage.commit("c")
            await is_watched(stage, aborted)
            await tidegate_rollout(stage, "pause")
            found = await stage.until(aborted, Phase.ABORTED)
            assert found.reason == "the pause expired"
            await stage.all_enforce("b")

    play(script, tmp_path)


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        (AnswerCounts(requests=100, refused=40), "40.0 % of requests are refused (403"),
        (AnswerCounts(requests=100, failed=40), "40.0 % of requests fail (5xx)"),
    ],
)
def test_worse_answers_to_requests_take_a_revision_back(
    tmp_path: Path, worse: AnswerCounts, why: str
) -> None:
    async def script(stage: Stage) -> None:
        stage.commit("a", rollout=QUICK | {"canary": CANARY | {"soak": "1h"}})
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            stage.nodes[0].answers = {
                Role.SHADOW: AnswerCounts(requests=100, refused=1, failed=1),
                Role.ENFORCING: worse,
            }
            revision = stage.commit("b")
            found = await stage.until(revision, Phase.QUARANTINED)
            assert why in found.reason
            assert "1.0 % before (tolerated rise: 5" in found.reason
            assert Role.ENFORCING in stage.nodes[0].roles
            await stage.all_enforce("a")

    play(script, tmp_path)
