"""A running reconciler with two reporting nodes, and what tests of rollouts ask of them.

In:   commits, made-up traffic, words of the command line
Out:  where revisions are, what the nodes were given
Shell: real Git, real signatures, real streams.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from reconciler.cli import main
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state.database import Database
from reconciler.state.rollouts import Entry, RolloutStore, rollout_of
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, deny, names_of
from tests.support.rollout_scene import CANARY_LABEL, INVENTORY, Watcher, watching

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
        """Where a revision was, in order."""
        return [entry.phase for entry in self.history(revision)]

    def history(self, revision: str) -> list[Entry]:
        """What happened to a revision, in order."""
        database = Database.open_read_only(self.scene.state)
        try:
            history = RolloutStore(database).history()
        finally:
            database.close()
        return [entry for entry in reversed(history) if entry.revision == revision]


@asynccontextmanager
async def nodes_of(scene: Scene, *, first_port: int = 0) -> AsyncIterator[list[Watcher]]:
    """Both nodes, until the end of the block."""
    async with AsyncExitStack() as stack:
        first = watching(scene, "node-a", CANARY_LABEL, port=first_port)
        yield [
            await stack.enter_async_context(first),
            await stack.enter_async_context(watching(scene, "node-b")),
        ]


def play(script: Callable[[Stage], Awaitable[None]], root: Path) -> None:
    """Run a script beside both nodes."""

    async def run() -> None:
        scene = Scene(root, nodes=("node-a", "node-b"))
        scene.inventory.write_text(INVENTORY)
        async with nodes_of(scene) as nodes:
            await script(Stage(scene, root, nodes))

    asyncio.run(run())
