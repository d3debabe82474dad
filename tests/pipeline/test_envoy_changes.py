"""Rules change a thousand times under load: no connection is cut, no request judged by rules not in force.

Rule set N allows /always and /only/N, never /never. A client notes the oldest and the newest set that may be
in force while its request is under way: the answer must be that of one of them.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from netpolicy.rules import HttpRule
from nodeagent.l7.rule_sets import RuleSet
from tests.support.envoy_scene import EnvoyScene, envoy_scene, request, rules, status_on

CHANGES = 1000
CLIENTS = 2


@dataclass
class Load:
    """What the clients and the changing hand share: the newest set that is told, and the newest served."""

    scene: EnvoyScene
    told: int = 0
    served: int = 0
    over: bool = False
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def run_client(self) -> None:
        with self.scene.connect() as client:
            while not self.over and not self.faults:
                for path in (
                    "/always",
                    "/never",
                    f"/only/{self.served}",
                    f"/only/{self.served - 1}",
                ):
                    self.ask(client, path)

    def ask(self, client: socket.socket, path: str) -> None:
        oldest = self.served
        try:
            status = status_on(client, request("GET", path))
        except OSError as error:
            self.faults.append(f"{path}: {error!r}")
            return
        newest = self.told
        self.answers[f"{path.split('/')[1]} {status}"] += 1
        if status not in {answer(number, path) for number in range(oldest, newest + 1)}:
            self.faults.append(f"{path}: {status} with sets {oldest} to {newest}")


def answer(number: int, path: str) -> int:
    """What a set answers."""
    return 200 if path in ("/always", f"/only/{number}") else 403


def numbered(number: int) -> RuleSet:
    """The set that is in force after so many changes."""
    return rules(HttpRule(path="/always"), HttpRule(path=f"/only/{number}"))


@pytest.mark.slow
def test_a_thousand_changes_cut_no_connection_and_leak_no_request(tmp_path: Path) -> None:
    with envoy_scene(tmp_path, workers=2) as scene:
        scene.serve(numbered(0))
        load = Load(scene)
        clients = [threading.Thread(target=load.run_client) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for number in range(1, CHANGES + 1):
            load.told = number
            scene.serve(numbered(number))
            load.served = number
        load.over = True
        for client in clients:
            client.join(10)
        assert load.faults == []
        assert len(scene.backend.connections) == CLIENTS
        assert load.answers["always 200"] > CHANGES
