"""Encryption from a commit to the nodes, and public keys between them: real Git, signatures, streams."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netpolicy.encryption import OFF, Encryption
from netpolicy.evidence import Role
from netpolicy.node_encryption import EncryptionMode, Implementation, NodeEncryption
from reconciler.cli import main
from reconciler.rollout.machine import Phase
from tests.support.node_keys import key_of
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene
from tests.support.rollout_stage import CANARY, QUICK, SETTINGS, Stage, play

pytestmark = pytest.mark.slow

STRICT = {"enabled": True, "strict": True, "rotation": "1d"}
ADDRESSES = """
nodes:
  - {name: node-a, addresses: [192.0.2.1], labels: {tidegate.dev/canary: "true"}}
  - {name: node-b, addresses: [192.0.2.2]}
"""


def settings(rollout: dict[str, Any], encryption: dict[str, Any] | None = None) -> str:
    return json.dumps({"rollout": rollout} | ({"encryption": encryption} if encryption else {}))


async def encrypt_status(scene: Scene, *words: str) -> tuple[int, str]:
    command = ["encrypt", "status", *words, "--state-dir", str(scene.state)]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    return result.exit_code, result.output


def test_a_commit_that_changes_nothing_but_encryption_is_staged_and_taken_back_the_same_way(
    tmp_path: Path,
) -> None:
    async def script(stage: Stage) -> None:
        plan = QUICK | {"canary": CANARY}
        stage.commit("a", rollout=plan)
        repository = stage.scene.repository
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            assert [one.node.bundles[-1].encryption for one in stage.nodes] == [OFF, OFF]
            on = repository.commit({SETTINGS: settings(plan, STRICT)})
            await stage.until(on, Phase.PROMOTED)
            canary, other = stage.nodes
            assert canary.roles == [Role.SHADOW, Role.ENFORCING]
            assert other.roles == [Role.SHADOW]
            wanted = Encryption(enabled=True, strict=True, rotation_seconds=86400)
            await until(
                lambda: all(one.node.bundles[-1].encryption == wanted for one in stage.nodes)
            )
            watched = next(c for c in canary.node.channels if c.candidate is not None)
            assert watched.candidate is not None
            assert (watched.stable.encryption, watched.candidate.encryption) == (OFF, wanted)
            assert watched.stable.units == watched.candidate.units
            assert "strict, port" in (await encrypt_status(stage.scene))[1]
            code, said = await stage.tidegate("undo")
            assert code == 0, said
            await until(lambda: all(one.node.bundles[-1].encryption == OFF for one in stage.nodes))

    play(script, tmp_path)


def test_a_node_that_cannot_encrypt_takes_back_a_change_of_encryption_and_nothing_else(
    tmp_path: Path,
) -> None:
    async def script(stage: Stage) -> None:
        patient = QUICK | {"shadow": {"soak": "1h"}}
        stage.commit("a", rollout=patient)
        broken = NodeEncryption(node="node-b", error="no TUN device")
        async with stage.scene.reconciling():
            await stage.all_enforce("a")
            stage.nodes[1].node.encryption = broken
            another = stage.commit("b")
            await stage.until(another, Phase.SHADOW)
            on = stage.scene.repository.commit({SETTINGS: settings(patient, STRICT)})
            rollout = await stage.until(on, Phase.QUARANTINED)
            assert rollout.reason == "node-b: encryption: no TUN device"
            before = stage.rollout(another)
            assert before is not None
            assert before.phase is Phase.SUPERSEDED

    play(script, tmp_path)


def test_a_canary_without_a_handshake_is_not_promoted_until_it_has_one(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        scene = stage.scene
        scene.inventory.write_text(ADDRESSES)
        first, second = (one.node for one in stage.nodes)
        stage.commit("a")
        async with scene.reconciling():
            await stage.all_enforce("a")
            first.encryption = replace(reports(1, node="node-a"), unmet_peers=("node-b",))
            second.encryption = reports(2, node="node-b")
            on = scene.repository.commit({SETTINGS: settings(QUICK, STRICT)})
            await stage.until(on, Phase.INCONCLUSIVE)
            while await held_by(stage) != ["node-a: no handshake yet with node-b"]:
                pass  # other nodes' answers may be missing still
            first.encryption = reports(1, node="node-a")
            await stage.until(on, Phase.PROMOTED)
            # What is switched off waits for no handshake: it may be off because there is none.
            first.encryption = replace(reports(1, node="node-a"), unmet_peers=("node-b",))
            off = scene.repository.commit({SETTINGS: settings(QUICK)})
            await stage.until(off, Phase.PROMOTED)

    play(script, tmp_path)


async def held_by(stage: Stage) -> list[str]:
    """What the gates miss of the revision on its way."""
    seen = json.loads((await stage.tidegate("status", "-o", "json"))[1])["seen"]
    return seen["reasons"] if seen else []


def reports(number: int, *, node: str) -> NodeEncryption:
    return NodeEncryption(
        node=node,
        mode=EncryptionMode.ON,
        implementation=Implementation.USERSPACE,
        keys=(key_of(node, number),),
        peers=1,
    )


def test_keys_reach_the_other_nodes_outlast_a_restart_and_cannot_be_stolen(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        scene = stage.scene
        scene.inventory.write_text(ADDRESSES)
        first, second = (one.node for one in stage.nodes)
        stage.commit("a")
        async with scene.reconciling():
            first.encryption = reports(1, node="node-a")
            await until(lambda: second.node_keys == (key_of("node-a", 1, "192.0.2.1"),))
            await until(lambda: first.node_keys == second.node_keys)
            second.encryption = reports(2, node="node-b")
            both = (key_of("node-a", 1, "192.0.2.1"), key_of("node-b", 2, "192.0.2.2"))
            await until(lambda: first.node_keys == both)
            code, said = await encrypt_status(scene)
            assert code == 0
            assert both[1].public_key in said
            # The second node now says that the first one's key is its own.
            second.encryption = reports(1, node="node-b")
            await until(lambda: "that of node-a" in _status(scene))
            assert first.node_keys == both
            assert CliRunner().invoke(main, _command(scene)).exit_code == 1
            old = replace(key_of("node-a", 1), made_at=0.5)
            first.encryption = replace(
                reports(3, node="node-a"), keys=(key_of("node-a", 3, made_at=9.0), old)
            )
            await until(lambda: len(second.node_keys) == 3)
        first.encryption = NodeEncryption(node="node-a")
        second.node_keys = ()
        async with scene.reconciling():
            # What the second node was admitted with comes back from the reconciler's disk alone.
            await until(lambda: [key.node for key in first.node_keys] == ["node-b"])
            assert first.node_keys == both[1:]

    play(script, tmp_path)


def test_a_node_that_leaves_the_inventory_takes_its_keys_along(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        scene = stage.scene
        scene.inventory.write_text(ADDRESSES)
        first, second = (one.node for one in stage.nodes)
        stage.commit("a")
        async with scene.reconciling():
            first.encryption = reports(1, node="node-a")
            await until(lambda: second.node_keys)
            scene.inventory.write_text("nodes: [{name: node-b, addresses: [192.0.2.2]}]\n")
            await until(lambda: not second.node_keys)
            scene.inventory.write_text(ADDRESSES)
            # It never left its stream, and does not say again what it said.
            await until(lambda: second.node_keys == (key_of("node-a", 1, "192.0.2.1"),))

    play(script, tmp_path)


def test_a_reconciler_that_lost_its_memory_takes_no_keys_from_the_nodes_that_have_them(
    tmp_path: Path,
) -> None:
    async def script(stage: Stage) -> None:
        scene = stage.scene
        scene.inventory.write_text(ADDRESSES + "  - {name: node-late, addresses: [192.0.2.3]}\n")
        first, second = (one.node for one in stage.nodes)
        remembered = second.node_keys = (key_of("node-late", 7, "192.0.2.3"),)
        stage.commit("a")
        async with scene.reconciling():
            first.encryption = reports(1, node="node-a")
            await until(lambda: "node-a" in _status(scene) and second.inventories)
            await until(lambda: key_of("node-a", 1).public_key in _status(scene))
            await asyncio.sleep(0.5)  # many times the time in which keys go out
            assert second.node_keys == remembered
            scene.inventory.write_text(ADDRESSES)
            await until(lambda: second.node_keys == (key_of("node-a", 1, "192.0.2.1"),))

    play(script, tmp_path)


def _command(scene: Scene) -> list[str]:
    return ["encrypt", "status", "--state-dir", str(scene.state)]


def _status(scene: Scene) -> str:
    return CliRunner().invoke(main, _command(scene)).output
