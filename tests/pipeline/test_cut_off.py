"""A reconciler that may have been replaced without knowing it: it takes back, and begins nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from reconciler.app import HEARD_ANOTHER, Reconciler
from reconciler.push import Hello
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.request_file import RolloutFile
from reconciler.surroundings import Standalone
from tests.support.beside import beside
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, deny, names_of

pytestmark = pytest.mark.slow

A, B = "policies/shop/a.yaml", "policies/shop/b.yaml"


class Uncertain(Standalone):
    """Files, and a word on whether another may lead."""

    is_certain = True

    def may_advance(self) -> bool:
        """As the test says."""
        return self.is_certain


@asynccontextmanager
async def reconciling(scene: Scene, place: Uncertain) -> AsyncIterator[Reconciler]:
    """Run it until the end of the block."""
    reconciler = Reconciler(scene.config, place)
    async with beside(reconciler.run()):
        yield reconciler


def test_it_takes_back_and_begins_nothing_until_it_is_certain_again(tmp_path: Path) -> None:
    async def script() -> None:
        scene = Scene(tmp_path)
        place = Uncertain(inventory=scene.inventory, state_dir=scene.state)
        file = RolloutFile(scene.state)
        scene.repository.commit({A: deny("a")})
        async with scene.agent() as node, reconciling(scene, place) as reconciler:
            await until(lambda: names_of(node) == ["a"])
            second = scene.repository.commit({B: deny("b")})
            await until(lambda: names_of(node) == ["a", "b"])
            place.is_certain = False
            third = scene.repository.commit({B: deny("c")})
            promote = Request(action=Action.PROMOTE, revision=second, token=f"{second}/1")
            file.ask(promote)
            await until(lambda: "promote" in file.read().answers)
            undo = Request(action=Action.ROLLBACK, revision=second, token=f"{second}/2")
            file.ask(undo)
            await until(lambda: names_of(node) == ["a"])
            assert node.channels[-1].terms.withdrawn == second
            await until(lambda: file.read().answers["rollback"] == "done")
            assert reconciler.judged == second, "what Git brought meanwhile was not looked at"
            place.is_certain = True
            await until(lambda: names_of(node) == ["a", "c"])
            assert reconciler.stable == third
            assert second not in {one.revision for one in node.bundles[-2:]}

    asyncio.run(script())


def test_what_waits_meanwhile_is_logged_once_a_commit(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    reconciler = Reconciler(
        scene.config, Uncertain(inventory=scene.inventory, state_dir=scene.state)
    )
    with capture_logs() as logs:
        for commit in ("one", "one", "two", "two"):
            reconciler._passes._say_waits(commit)
    waits = [entry["revision"] for entry in logs if entry["event"] == "revision_waits"]
    assert waits == ["one", "two"]


def test_who_heard_another_leader_is_sent_on_to_it(tmp_path: Path) -> None:
    """It would refuse the lower number that is announced here, and a gate would take that for a failure."""

    async def script() -> None:
        scene = Scene(tmp_path)
        place = Uncertain(inventory=scene.inventory, state_dir=scene.state)
        scene.repository.commit({A: deny("a")})
        async with scene.agent() as node, reconciling(scene, place) as reconciler:
            await until(lambda: names_of(node) == ["a"])

            def answer(sequence: int) -> str:
                return reconciler._cannot_serve(
                    Hello(
                        instance="i",
                        agent_version="1",
                        capabilities=(),
                        sequence=sequence,
                        digest="",
                        version=1,
                    )
                )

            above = reconciler.sequence + 1
            assert answer(above) == "", "numbers that this leader must go above"
            place.is_certain = False
            assert (answer(above), answer(above - 1)) == (HEARD_ANOTHER, "")

    asyncio.run(script())
