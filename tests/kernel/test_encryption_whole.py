"""Encryption by a commit, all of it real: Git, reconciler, stages, agents, kernels, and a tap on the link.

frontend ── node-a ══════ tap ══════ node-b ── api-gateway, prometheus

node-a is the canary: it is strict while node-b only watches.
"""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from demo.author import Pushed
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.local_api_client import open_agent
from tests.support.kernel_pods import within
from tests.support.tap import POD_BLOCKS, ClearPacket, Tap, tap
from tests.support.whole_rollout import PATIENCE_SECONDS, SETTINGS_FILE, WholeRollout
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE, WorldNode

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

STAGES = """\
rollout:
  shadow: {soak: 2s}
  canary: {nodes: {matchLabels: {kubernetes.io/hostname: node-a}}, soak: 1h}
  inconclusive: 60s
  confirm: 20s
"""
STRICT = f"encryption: {{enabled: true, strict: true, podCIDRs: {json.dumps(POD_BLOCKS)}}}\n"


class Encrypted:
    """The world under a whole Tidegate, and what its agents say of their tunnels."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.whole = WholeRollout(world, STAGES)
        self.whole.start()

    def encryption(self, node: str) -> pb.EncryptionResponse:
        with open_agent(self.whole.services.layout.socket(node)) as agent:
            return agent.encryption()

    def wait(self, what: str, node: str, is_so: Callable[[pb.EncryptionResponse], bool]) -> None:
        self.world.wait_for(
            f"{node}: {what}", lambda: is_so(self.encryption(node)), timeout=PATIENCE_SECONDS
        )

    def since(self, node: str, mode: str) -> float:
        """When a node began to encrypt so, by its own log."""
        return self.whole.services.wait_for_event(
            node,
            f"{node} is {mode}",
            lambda event: event.name == "encryption_applied" and event.says(mode=mode),
        ).at

    def says_encrypted(self, node: str, since: float) -> bool:
        """True if every flow between nodes, after a moment, is one that travelled encrypted."""
        shown = self.whole.services.ask_agent(node, "flows", "-o", "json").splitlines()
        flows = [flow for flow in map(json.loads, shown) if _time(flow) > since]
        assert flows
        return all(flow["IP"]["encrypted"] for flow in flows)

    def routes_mended(self, node: str) -> int:
        with open_agent(self.whole.services.layout.socket(node)) as agent:
            counts = agent.status().drift.counts
        return sum(count.repaired for count in counts if count.kind == "route")

    def lose_a_rule(self, node: str) -> None:
        """Somebody takes away what leads into the tunnels."""
        command = ["ip", "-n", self.world.namespace(node), "rule", "del", "priority", "511"]
        subprocess.run(command, check=True)

    def promote(self, pushed: Pushed) -> None:
        self.whole.stage.wait_for_phase(pushed, "Canary")
        code, answer = self.whole.tidegate("rollout", "promote")
        assert code == 0, answer
        self.whole.stage.wait_for_phase(pushed, "Promoted")


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Encrypted]:
    with World(ECOMMERCE) as world:
        yield Encrypted(world)


def _time(flow: dict[str, Any]) -> float:
    return datetime.fromisoformat(flow["time"]).timestamp()


def pod_packets(seen: Tap, node: WorldNode, *, since: float) -> list[ClearPacket]:
    """What left a node in the clear, from its pods, after a moment."""
    own = {address for pod in ECOMMERCE.pods_on(node) for address in pod.addresses}
    return [packet for packet in seen.clear_since(since) if packet.source in own]


def test_a_commit_switches_it_on_in_stages_a_command_rotates_it_and_a_commit_switches_it_off(
    encrypted: Encrypted,
) -> None:
    whole, stage = encrypted.whole, encrypted.whole.stage
    stage.start_stream("shop", "frontend", "api-gateway", timeout=4.0)
    stage.wait_for_stream("shop", "runs", lambda seen: seen.answered > 10)
    with tap(encrypted.world, "node-a") as seen:
        on = whole.author.publish("Encrypt", {SETTINGS_FILE: STAGES + STRICT})
        encrypted.wait("is strict", "node-a", lambda found: found.mode == "strict")
        assert encrypted.encryption("node-b").mode == "prepared"
        encrypted.promote(on)
        since = {node.name: encrypted.since(node.name, "strict") for node in ECOMMERCE.nodes}
    assert seen.in_the_clear
    for node in ECOMMERCE.nodes:
        assert pod_packets(seen, node, since=since[node.name]) == []
    assert seen.clear_since(max(since.values())) == []
    answered = stage.stream("shop").answered
    with tap(encrypted.world, "node-a") as seen:
        before = encrypted.encryption("node-a").keys[0].public_key
        assert "changing over" in encrypted.whole.services.ask_agent("node-a", "encrypt", "rotate")
        encrypted.wait(
            "has one key, another",
            "node-a",
            lambda found: before not in [key.public_key for key in found.keys],
        )
        stage.wait_for_stream("shop", "goes on", lambda seen: seen.answered > answered + 10)
    assert seen.in_the_clear == []
    assert seen.tunnelled > 0
    mended = encrypted.routes_mended("node-a")
    encrypted.lose_a_rule("node-a")
    encrypted.world.wait_for(
        "the rule is back, and counted",
        lambda: encrypted.routes_mended("node-a") > mended,
        timeout=PATIENCE_SECONDS,
    )
    stage.start_stream("fresh", "frontend", "api-gateway", fresh=True)
    stage.wait_for_stream("fresh", "runs", lambda seen: seen.answered > 3)
    stage.stop_stream("fresh")
    for node in ECOMMERCE.nodes:
        assert encrypted.says_encrypted(node.name, stage.stream("fresh").records[0].begun)
    code, said = whole.tidegate("encrypt", "status")
    assert code == 0, said
    off = whole.author.publish("Do not encrypt", {SETTINGS_FILE: STAGES})
    encrypted.promote(off)
    for node in ECOMMERCE.nodes:
        encrypted.wait("does not encrypt", node.name, lambda found: found.mode == "off")
        devices = within(encrypted.world.namespace(node.name), socket.if_nameindex)
        assert not any(name.startswith("tidegate_wg") for _, name in devices)
    answered = stage.stream("shop").answered
    with tap(encrypted.world, "node-a") as seen:
        stage.wait_for_stream("shop", "goes on", lambda seen: seen.answered > answered + 10)
    assert seen.in_the_clear
    shop = stage.stop_stream("shop")
    assert shop.failed == ()
