"""A disk that is full, and has room again: the reconciler's state on a small file system of its own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from netpolicy.errors import StalledError, TransientError
from reconciler.app import standalone
from reconciler.rollout.machine import Phase
from reconciler.state.database import Database
from reconciler.state.rollouts import rollout_of
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, deny, names_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

POLICY = "policies/shop/a.yaml"
SIZE = "1m"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    scene.state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tidegate-test", str(scene.state)]
    subprocess.run(mount, check=True)
    try:
        yield scene
    finally:
        subprocess.run(["umount", "-l", str(scene.state)], check=True)


def fill(scene: Scene) -> None:
    """Leave not one byte."""
    with _ballast(scene).open("wb", buffering=0) as file:
        for size in (4096, 64, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)


def make_room(scene: Scene) -> None:
    _ballast(scene).unlink()


def _ballast(scene: Scene) -> Path:
    return scene.state / "ballast"


def test_a_full_disk_stops_a_commit_and_no_agent_and_heals(scene: Scene) -> None:
    async def script() -> None:
        scene.repository.commit({POLICY: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
            fill(scene)
            scene.repository.commit({POLICY: deny("b")})
            scene.inventory.write_text(scene.inventory.read_text().replace("10.1.0.1", "10.1.0.2"))
            await until(lambda: any(e.address == "10.1.0.2" for e in node.inventories[-1]))
            assert node.receiver.status().connected
            assert names_of(node) == ["a"]
            make_room(scene)
            await until(lambda: names_of(node) == ["b"])

    asyncio.run(script())


def test_an_ack_that_cannot_be_noted_ends_neither_the_agents_stream_nor_the_reconciler(
    scene: Scene,
) -> None:
    async def script() -> None:
        commit = scene.repository.commit({POLICY: deny("a")})
        async with scene.reconciling():
            await scene.until_reason("Succeeded")
            fill(scene)
            async with scene.agent() as node:
                await until(lambda: names_of(node) == ["a"])
                scene.inventory.write_text(
                    scene.inventory.read_text().replace("10.1.0.1", "10.1.0.2")
                )
                await until(lambda: any(e.address == "10.1.0.2" for e in node.inventories[-1]))
                assert node.receiver.status().connected
                make_room(scene)
                database = Database.open_read_only(scene.state)

                def is_promoted() -> bool:
                    rollout = rollout_of(database, commit)
                    return rollout is not None and rollout.phase is Phase.PROMOTED

                await until(is_promoted)

    asyncio.run(script())


def test_a_start_on_a_full_disk_says_so_and_never_to_move_the_state_aside(scene: Scene) -> None:
    async def publish() -> None:
        scene.repository.commit({POLICY: deny("a")})
        async with scene.reconciling():
            await scene.until_reason("Succeeded")

    asyncio.run(publish())
    fill(scene)
    with pytest.raises((StalledError, TransientError)) as refused:
        standalone(scene.config)
    assert "Move the file aside" not in str(refused.value)
    make_room(scene)
    asyncio.run(publish())
