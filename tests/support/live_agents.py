"""Real agents on the nodes of a world, without a reconciler: bootstrap policy is in force.

In:   a World
Out:  Agents: started, asked, and their reported drops
Shell.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.local_api_client import open_agent
from tests.support.world import PROJECT, World


class Agents:
    """The agents of a world."""

    def __init__(self, world: World, *, direct_delivery: bool = False) -> None:
        self.world = world
        self._direct_delivery = direct_delivery
        for node in (node.name for node in world.topology.nodes):
            self.config(node).write_text(yaml.safe_dump(self._document(node)))

    def start(self, node: str) -> None:
        ready = self.world.tail(node, 10_000).count("nodeagent ready")
        command = [
            sys.executable,
            "-m",
            "nodeagent.cli",
            "run",
            "--config",
            str(self.config(node)),
        ]
        self.world.start(node, node, command)
        self.world.wait_for(
            f"{node} is ready",
            lambda: self.world.tail(node, 10_000).count("nodeagent ready") > ready,
            timeout=30,
            program=node,
        )

    def ask(self, node: str, *words: str) -> Any:
        command = [sys.executable, "-m", "nodeagent.cli", *words, "--config",
                   str(self.config(node))]  # fmt: skip
        return self.world.run(node, command).stdout

    def ask_json(self, node: str, *words: str) -> Any:
        return json.loads(self.ask(node, *words, "-o", "json"))

    def drops(self, node: str) -> list[dict[str, Any]]:
        lines = self.ask(node, "flows", "--verdict", "DROPPED", "-o", "json").splitlines()
        return [json.loads(line) for line in lines]

    def status(self, node: str) -> pb.StatusResponse:
        with open_agent(self.world.directory / f"{node}.sock") as client:
            return client.status()

    def repaired(self, node: str, kind: str) -> int:
        """How often the agent has put something of this kind back."""
        return sum(one.repaired for one in self.status(node).drift.counts if one.kind == kind)

    def config(self, node: str) -> Path:
        return self.world.directory / f"{node}.yaml"

    def _document(self, node: str) -> dict[str, Any]:
        return {
            "node": node,
            "state_dir": str(self.world.directory / "state" / node),
            "bpffs": str(self.world.bpffs / node),
            "bpf_object": str(PROJECT / "build/bpf/tidegate.bpf.o"),
            "inventory": str(self.world.inventory_path),
            "socket": str(self.world.directory / f"{node}.sock"),
            "datapath": {"direct_delivery": self._direct_delivery},
        }
