"""What a node's standing means for its encryption, and what becomes of one that cannot be had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.encryption import OFF, Encryption
from netpolicy.errors import StalledError
from netpolicy.evidence import Role
from netpolicy.labels import Labels
from netpolicy.node_choice import NodeChoice
from netpolicy.node_encryption import EncryptionMode, NodeEncryption
from nodeagent.encrypts import EncryptionInputs
from nodeagent.rollout.channels import Channels, standing
from nodeagent.rollout.encryption import Encrypting, encrypting
from tests.pipeline.test_agent_planning import Agent, _scene, _see_node
from tests.support.agent_scene import REMOTE, make_bundle, make_channels
from tests.support.datapath_model import ModelDatapath
from tests.support.node_keys import key_of

STRICT = Encryption(enabled=True, strict=True, port=5000)
ON = Encryption(enabled=True)
PLAIN = make_bundle(1, name=1)
SEALED = replace(make_bundle(2, name=2), encryption=STRICT)
OPENED = replace(make_bundle(3, name=3), encryption=ON)
EVERYONE, NOBODY = NodeChoice(percent=100.0), NodeChoice()

OWN = key_of("here", 9, "192.0.2.9")
IN_FORCE = (key_of("b", 2, "192.0.2.2", made_at=7.0), key_of("b", 1, "192.0.2.2", made_at=3.0))
PREPARED = key_of("c", 3, "192.0.2.3", in_force=False)
KEYS = (PREPARED, IN_FORCE[1], OWN, IN_FORCE[0])


def told(channels: Channels | None) -> Encrypting:
    stand = standing(channels, node="here", labels=Labels()) if channels else None
    return encrypting(channels, stand, KEYS, node="here")


def test_a_node_that_enforces_encryption_has_tunnels_to_every_node_with_a_key() -> None:
    wanted = Encrypting(
        settings=STRICT, mode=EncryptionMode.STRICT, node_keys=(*IN_FORCE, PREPARED)
    )
    assert told(make_channels(2, stable=SEALED)) == wanted
    assert told(make_channels(2, stable=PLAIN, candidate=SEALED, nodes=EVERYONE)) == wanted
    assert told(make_channels(3, stable=OPENED)).mode is EncryptionMode.ON


def test_a_node_that_watches_encryption_has_tunnels_to_all_with_a_key_and_is_not_strict() -> None:
    found = told(make_channels(2, stable=PLAIN, candidate=SEALED, nodes=NOBODY))
    assert found == Encrypting(
        settings=replace(STRICT, strict=False),
        mode=EncryptionMode.PREPARED,
        node_keys=(*IN_FORCE, PREPARED),
    )


def test_a_node_that_left_encryption_keeps_its_tunnels_while_others_encrypt() -> None:
    found = told(make_channels(2, stable=SEALED, candidate=PLAIN, nodes=EVERYONE))
    assert (found.mode, found.node_keys) == (EncryptionMode.PREPARED, (*IN_FORCE, PREPARED))


@pytest.mark.parametrize("channels", [None, make_channels(1, stable=PLAIN)])
def test_where_nobody_encrypts_there_are_no_tunnels(channels: Channels | None) -> None:
    assert told(channels) == Encrypting()


class Tunnels:
    """Encrypts that notes what it is told, and can be broken."""

    def __init__(self) -> None:
        self.told: list[EncryptionInputs] = []
        self.fault = ""

    async def bring_about(self, inputs: EncryptionInputs) -> None:
        if self.fault:
            raise StalledError(self.fault, reason="Broken")
        self.told.append(inputs)

    def report(self) -> NodeEncryption:
        return NodeEncryption(node="here")


class Scene:
    def __init__(self, state: Path) -> None:
        self.tunnels = Tunnels()
        self.state = state
        self.kernel = ModelDatapath()

    def agent(self, channels: Channels | None = None) -> Agent:
        return Agent(self.kernel, self.state, channels, encrypts=self.tunnels)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_agent_hands_over_settings_keys_and_addresses_and_each_change_of_them(
    scene: Scene,
) -> None:
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1, stable=PLAIN))
        assert [inputs.encrypting for inputs in scene.tunnels.told] == [Encrypting()]
        await agent.planner.take_feed((REMOTE,))
        await agent.planner.take_node_keys(KEYS)
        await agent.settle()
        assert (
            len(scene.tunnels.told) == 1
        )  # nothing is encrypted: who has which key is of no account
        taken = await agent.planner.take(make_channels(2, stable=SEALED))
        assert taken.flipped  # the same packets pass, but not in the clear
        told = scene.tunnels.told[-1]
        assert told.encrypting.mode is EncryptionMode.STRICT
        assert told.encrypting.node_keys == (*IN_FORCE, PREPARED)
        assert told.entries == (REMOTE,)
        assert told.node_addresses == ("192.0.2.1",)
        await agent.planner.take_node_keys((OWN, IN_FORCE[0]))
        await agent.settle()
        assert scene.tunnels.told[-1].encrypting.node_keys == IN_FORCE[:1]

    _scene(scene.agent(), script)


def test_keys_outlast_a_restart_without_the_reconciler(scene: Scene) -> None:
    async def before(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take_node_keys(KEYS)

    async def after(agent: Agent) -> None:
        await _see_node(agent)
        assert scene.tunnels.told[-1].encrypting.node_keys == (*IN_FORCE, PREPARED)

    _scene(scene.agent(), before)
    _scene(scene.agent(make_channels(2, stable=SEALED)), after)


def test_a_publication_whose_encryption_cannot_be_had_is_refused_and_the_last_one_stays(
    scene: Scene,
) -> None:
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        first = await agent.planner.take(make_channels(1, stable=PLAIN))
        scene.tunnels.fault = "port 5000 is taken"
        with pytest.raises(StalledError, match="port 5000 is taken"):
            await agent.planner.take(make_channels(2, stable=SEALED))
        label = agent.enforcer.active_label
        assert label is not None
        assert (label.sequence, label.generation_digest) == (1, first.generation_digest)

    _scene(scene.agent(), script)


def test_a_candidate_whose_encryption_cannot_be_had_is_not_enforced_on_a_canary(
    scene: Scene,
) -> None:
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1, stable=PLAIN))
        scene.tunnels.fault = "no TUN device"
        shadowed = make_channels(2, stable=PLAIN, candidate=SEALED, nodes=NOBODY)
        assert (await agent.planner.take(shadowed)).role is Role.SHADOW
        canary = make_channels(3, stable=PLAIN, candidate=SEALED, nodes=EVERYONE)
        assert (await agent.planner.take(canary)).role is Role.NONE
        assert agent.planner.standing is not None
        assert agent.planner.standing.error == "encryption: no TUN device"
        assert agent.planner.standing.enforced.encryption == OFF

    _scene(scene.agent(), script)


def test_tunnels_that_fail_later_do_not_hold_up_policy_and_are_tried_again(scene: Scene) -> None:
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1, stable=SEALED))
        scene.tunnels.fault = "wireguard-go died"
        await agent.planner.take_node_keys(KEYS)
        await agent.settle()
        fresh = replace(make_bundle(2, name=5), encryption=STRICT)
        assert (await agent.planner.take(make_channels(2, stable=fresh))).generation_digest
        assert agent.planner.status.error == ""
        scene.tunnels.fault = ""
        agent.planner.retry_now()
        await agent.settle()
        assert scene.tunnels.told[-1].encrypting.node_keys == (*IN_FORCE, PREPARED)

    _scene(scene.agent(), script)


def test_an_agent_that_cannot_encrypt_says_so(tmp_path: Path) -> None:
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        with pytest.raises(StalledError, match="cannot encrypt"):
            await agent.planner.take(make_channels(1, stable=SEALED))

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_what_was_asked_once_is_not_asked_again(scene: Scene) -> None:
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        for sequence in (1, 2, 3):
            await agent.planner.take(make_channels(sequence, stable=SEALED))
        assert len([i for i in scene.tunnels.told if i.encrypting.mode.is_in_force]) == 1

    _scene(scene.agent(), script)
