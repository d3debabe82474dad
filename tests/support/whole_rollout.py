"""A world under a whole Tidegate with stages: real Git, reconciler, agents, kernels and traffic.

In:   a World, the settings of its policy repository, answers awaited
Out:  WholeRollout: commits, phases, what `tidegate rollout` says
Shell.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from demo.author import Author, Pushed
from demo.screen import Screen
from demo.services import PROGRAMS, RECONCILER, Services
from demo.stage import Stage
from tests.support.world import World

SETTINGS_FILE: Final = "tidegate.yaml"
PATIENCE_SECONDS: Final = 90.0


class WholeRollout:
    """The world under a reconciler, and its author. `settings`: of the first commit's `tidegate.yaml`."""

    def __init__(self, world: World, settings: str) -> None:
        self.world = world
        self.services = Services(world)
        remote = self.services.start_git_server()
        self.services.make_keys()
        self.services.write_configuration(remote)
        self.author = Author(world, remote, world.directory / "author")
        self.author.take_from_template(leave_out=("tests", SETTINGS_FILE))
        self.first = self.author.publish("Begin", {SETTINGS_FILE: settings})
        self.stage = Stage(world, self.services, self.author, Screen())

    def start(self) -> None:
        """Everything runs, and the first commit is enforced."""
        self.stage.start_workloads()
        self.services.start_reconciler()
        for node in self.services.nodes:
            self.services.start_agent(node)
        for node in self.services.nodes:
            self.services.wait_for_agent(node)
        self.until(self.first, "Promoted")

    def tidegate(self, *words: str) -> tuple[int, str]:
        """A command of the reconciler's side: exit code, and what it printed."""
        state = ["--state-dir", str(self.services.layout.state(RECONCILER))]
        done = subprocess.run(
            [str(PROGRAMS / "tidegate"), *words, *state],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def status(self) -> dict[str, Any]:
        """`tidegate rollout status`; empty before there is a rollout."""
        code, text = self.tidegate("rollout", "status", "-o", "json")
        return {} if code == 2 else json.loads(text)

    def until(self, pushed: Pushed, phase: str) -> dict[str, Any]:
        """Wait until a commit's rollout is there; how it is then."""

        def is_there() -> bool:
            found = self.status()
            return (found.get("revision"), found.get("phase")) == (pushed.commit, phase)

        self.world.wait_for(f"{pushed.subject} is {phase}", is_there, timeout=PATIENCE_SECONDS)
        return self.status()

    def preview(self, claim: str) -> dict[str, Any]:
        """What the policies would cut that are not enforced, once they would cut anything."""
        self.world.wait_for(
            claim, lambda: (self.status().get("preview") or {}).get("cut"), timeout=PATIENCE_SECONDS
        )
        found: dict[str, Any] = self.status()["preview"]
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the reconciler logged under this name."""
        return [dict(e.fields) for e in self.services.events(RECONCILER) if e.name == name]
