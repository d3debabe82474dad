"""Numbers that agents hold already are given up: after lost state and a clock that went back."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

import pytest

from netpolicy.capabilities import BASELINE
from reconciler import publisher, renumbering
from reconciler.publication import Publication
from reconciler.state.database import Database
from reconciler.state.rollouts import RolloutStore
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, deny, names_of

A = "policies/shop/a.yaml"
TAKEN = int(time.time()) + 3600
"""A number from before a clock was set back by an hour."""


@pytest.mark.parametrize("first_number", [TAKEN, TAKEN - 1000], ids=["the same", "lower"])
def test_content_under_a_number_that_agents_hold_gets_a_higher_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_number: int
) -> None:
    first = [TAKEN]

    def numbered(last: Publication | None) -> int:
        return last.sequence + 1 if last is not None else first[0]

    monkeypatch.setattr(publisher, "_next_sequence", numbered)

    async def script() -> None:
        scene = Scene(tmp_path)
        scene.repository.commit({A: deny("a")})
        async with scene.agent(capabilities=tuple(BASELINE)) as node, scene.reconciling():
            await until(lambda: names_of(node) == ["a"])
        shutil.rmtree(scene.state)
        first[0] = first_number
        revision = scene.repository.commit({A: deny("b")})
        async with scene.reconciling() as reconciler:
            await until(lambda: reconciler.stable == revision)  # nobody said what it holds
            async with scene.agent(capabilities=tuple(BASELINE)) as node:
                await until(lambda: names_of(node) == ["b"])
                assert node.bundles[-1].sequence == TAKEN + 1
                await until(lambda: promoted(scene, revision))

    asyncio.run(script())


def promoted(scene: Scene, revision: str) -> bool:
    database = Database.open_read_only(scene.state)
    try:
        found = RolloutStore(database).rollout_of(revision)
        return found is not None and found.phase == "Promoted"
    finally:
        database.close()


def test_what_nobody_can_hold_is_not_climbed_to(tmp_path: Path) -> None:
    async def script() -> None:
        scene = Scene(tmp_path)
        async with scene.reconciling() as reconciler:
            reconciler._fleet._held_sequence = 9 * 10**9
            assert reconciler.held_sequence <= int(time.time()) + renumbering.MOST_AHEAD

    asyncio.run(script())
