"""Planner and enforcer on a datapath in memory: what is in force after each input and each failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.errors import StalledError
from netpolicy.evaluate import Outcome
from netpolicy.evidence import ASKED
from netpolicy.rules import Direction
from nodeagent.datapath import DatapathError
from nodeagent.encrypts import Encrypts
from nodeagent.enforcer import Enforcer
from nodeagent.placement import Placement
from nodeagent.plan.model import identity_of
from nodeagent.plan.room import AddressRoom
from nodeagent.planner import Planner
from nodeagent.rollout.channels import Channels
from nodeagent.shadow_watch import ShadowWatch
from tests.support.agent_scene import INTERFACES, REMOTE, VIEW, WEB, make_channels
from tests.support.datapath_model import ModelDatapath
from tests.support.plan_strategies import out_to, policy, web_from_anyone

SHUT = policy("shut", default_deny=tuple(Direction))


class Agent:
    """Planner and enforcer over one kernel, as a process would have them."""

    def __init__(
        self,
        kernel: ModelDatapath,
        state: Path,
        channels: Channels | None = None,
        *,
        room: AddressRoom | None = None,
        encrypts: Encrypts | None = None,
    ) -> None:
        self.kernel = kernel
        watches = {
            one: ShadowWatch(kernel, one, node="here", state_dir=state)  # type: ignore[arg-type]
            for one in ASKED
        }
        self.enforcer = Enforcer(kernel, watches)
        self.placement = Placement(kernel)
        self.planner = Planner(
            self.enforcer,
            self.placement,
            node="here",
            state_dir=state,
            admit_local_host=True,
            channels=channels,
            room=room,
            encrypts=encrypts,
        )

    async def settle(self) -> None:
        """Wait until nothing is waiting to be planned."""
        for _ in range(200):
            await asyncio.sleep(0.01)
            if not self.planner.busy:
                return
        raise TimeoutError("the planner does not settle")


def _scene(agent: Agent, script: Callable[[Agent], Awaitable[None]]) -> Agent:
    async def run() -> None:
        planner = asyncio.create_task(agent.planner.run())
        try:
            await script(agent)
        finally:
            planner.cancel()

    asyncio.run(run())
    return agent


async def _see_node(agent: Agent) -> None:
    await agent.planner.take_interfaces(INTERFACES)
    agent.planner.take_view(VIEW)
    await agent.settle()


def _ingress(kernel: ModelDatapath, peer: str, port: int = 80) -> Outcome | None:
    judged = kernel.judge(7, Direction.INGRESS, peer, port)
    return judged.outcome if judged else None


def test_without_a_bundle_the_bootstrap_policy_is_in_force(tmp_path: Path):
    kernel = _scene(Agent(ModelDatapath(), tmp_path), _see_node).kernel
    assert _ingress(kernel, "10.0.9.9") is Outcome.DENIED_BY_DEFAULT
    assert _ingress(kernel, "192.0.2.1") is Outcome.ALLOWED


def test_an_interface_refuses_everything_until_a_generation_is_active(tmp_path: Path):
    kernel = _scene(Agent(ModelDatapath(), tmp_path), _see_node).kernel
    order = [kernel.history.index(call) for call in ("attach", "activate", "set_endpoint")]
    assert order == sorted(order)
    assert kernel.history.count("attach") == 1


def test_a_number_that_came_back_is_guarded_though_its_going_was_not_heard_of(tmp_path: Path):
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        number = 7  # that of the pod which is there
        agent.kernel.history.clear()
        agent.planner.guard_interfaces({"another": number})
        assert agent.kernel.history == ["attach"]

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_a_bundle_is_enforced_before_it_is_acknowledged(tmp_path: Path):
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        taken = await agent.planner.take(make_channels(1, web_from_anyone()))
        assert agent.kernel.active.digest == taken.generation_digest
        assert _ingress(agent.kernel, "10.0.9.9") is Outcome.ALLOWED
        assert _ingress(agent.kernel, "10.0.9.9", 81) is Outcome.DENIED_BY_DEFAULT

    _scene(Agent(ModelDatapath(), tmp_path), script)


@pytest.mark.parametrize("broken", ["fill", "activate", "upsert_addresses", "prune_addresses"])
def test_a_bundle_that_the_kernel_refuses_leaves_the_last_good_one(tmp_path: Path, broken: str):
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1, SHUT))
        before = agent.kernel.active.digest
        agent.kernel.failing.add(broken)
        with pytest.raises(DatapathError):
            await agent.planner.take(make_channels(2, out_to("198.51.100.0/24")))
        assert agent.planner.status.reason == "DatapathFailed"
        agent.kernel.failing.clear()
        agent.planner.retry_now()
        await agent.settle()
        assert agent.kernel.active.digest == before
        assert set(agent.kernel.addresses.prefixes) == {"0.0.0.0/0", "::/0"}
        assert agent.planner.status.error == ""
        assert agent.enforcer.installed.origin.sequence == 1

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_a_restart_into_the_same_plan_flips_nothing(tmp_path: Path):
    kernel, bundle = ModelDatapath(), make_channels(3, web_from_anyone())

    async def first(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(bundle)
        await agent.planner.take_feed((REMOTE,))
        await agent.settle()

    _scene(Agent(kernel, tmp_path), first)
    before, word = kernel.active, kernel.word
    kernel.history.clear()
    restarted = _scene(Agent(kernel, tmp_path, bundle), _see_node)
    assert "activate" not in kernel.history
    assert (kernel.active, kernel.word) == (before, word)
    assert restarted.enforcer.meanings[word.revision].commit == bundle.stable.revision
    assert restarted.planner.first_plan.is_set()


def test_a_restart_that_lost_its_bundle_leaves_the_kernel_alone(tmp_path: Path):
    kernel = ModelDatapath()

    async def first(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(3, web_from_anyone()))

    _scene(Agent(kernel, tmp_path), first)
    word = kernel.word
    for lost in (None, make_channels(2, SHUT)):
        agent = _scene(Agent(kernel, tmp_path, lost), _see_node)
        assert kernel.word == word
        assert kernel.judge(7, Direction.INGRESS, "10.0.9.9", 80).allowed
        assert not agent.planner.first_plan.is_set()
    newer = Agent(kernel, tmp_path)

    async def second(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(4, SHUT))

    _scene(newer, second)
    assert _ingress(kernel, "10.0.9.9") is Outcome.DENIED_BY_DEFAULT


def test_a_new_pod_is_refused_everything_while_the_plan_waits_for_its_bundle(tmp_path: Path):
    kernel = ModelDatapath()

    async def first(agent: Agent) -> None:
        await agent.planner.take_interfaces({"lo": 1})
        agent.planner.take_view(replace(VIEW, pods=()))
        await agent.planner.take(make_channels(3))

    _scene(Agent(kernel, tmp_path), first)
    _scene(Agent(kernel, tmp_path), _see_node)
    assert kernel.attached_to == {7}
    assert kernel.endpoints == {}


def test_the_feed_is_kept_for_a_start_without_the_reconciler(tmp_path: Path):
    kernel = ModelDatapath()

    async def first(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take_feed((REMOTE,))
        await agent.settle()

    _scene(Agent(kernel, tmp_path), first)
    assert "10.0.9.9" in kernel.addresses.exact
    _scene(Agent(ModelDatapath(), tmp_path), _see_node)
    _scene(Agent(kernel, tmp_path), _see_node)
    assert "10.0.9.9" in kernel.addresses.exact


def test_a_pod_that_goes_is_refused_everything_and_its_return_is_served(tmp_path: Path):
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1))
        assert _ingress(agent.kernel, "10.0.9.9") is Outcome.UNSELECTED
        agent.planner.take_view(replace(VIEW, pods=()))
        await agent.settle()
        assert agent.kernel.endpoints == {}
        assert agent.kernel.attached_to == {7}
        agent.planner.take_view(VIEW)
        await agent.settle()
        assert _ingress(agent.kernel, "10.0.9.9") is Outcome.UNSELECTED

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_a_pod_is_attached_when_its_interface_appears(tmp_path: Path):
    async def script(agent: Agent) -> None:
        await agent.planner.take_interfaces({"lo": 1})
        agent.planner.take_view(VIEW)
        await agent.settle()
        assert agent.planner.status.awaited_interfaces == ("lxc1",)
        await agent.planner.take_interfaces(INTERFACES)
        assert agent.kernel.attached_to == {7}
        assert agent.planner.status.awaited_interfaces == ()

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_an_interface_that_lost_its_filters_is_attached_again(tmp_path: Path):
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        agent.kernel.attached_to.clear()
        agent.kernel.failing.add("attach")
        await agent.planner.take_interfaces(INTERFACES, lost={7})
        assert agent.planner.status.awaited_interfaces == ("lxc1",)
        agent.kernel.failing.clear()
        agent.planner.retry_now()
        await agent.settle()
        assert agent.kernel.attached_to == {7}
        assert agent.planner.status.awaited_interfaces == ()

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_an_interface_that_goes_leaves_no_endpoint_in_the_kernel(tmp_path: Path):
    async def script(agent: Agent) -> None:
        await _see_node(agent)
        for index in range(8, 12):
            await agent.planner.take_interfaces({"lo": 1}, lost={index - 1})
            assert agent.kernel.endpoints == {}
            await agent.planner.take_interfaces({"lo": 1, "lxc1": index})
            assert set(agent.kernel.endpoints) == {index}

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_two_pods_that_exchange_addresses_keep_their_own_identities(tmp_path: Path):
    other = replace(
        WEB,
        endpoint_id=6,
        name="other",
        labels=REMOTE.labels,
        addresses=("10.0.0.2",),
        interface="lxc2",
    )
    interfaces = {**INTERFACES, "lxc2": 8}
    exchanged = (
        replace(WEB, addresses=other.addresses, endpoint_id=15),
        replace(other, addresses=WEB.addresses, endpoint_id=16),
    )

    async def script(agent: Agent) -> None:
        await agent.planner.take_interfaces(interfaces)
        for pods in ((WEB, other), exchanged):
            agent.planner.take_view(replace(VIEW, pods=pods))
            await agent.settle()
            installed = agent.enforcer.installed
            for pod, index in zip(pods, (7, 8), strict=True):
                held = agent.kernel.endpoints[index]
                assert (held.name, held.endpoint_id) == (pod.name, pod.endpoint_id)
                number = identity_of(agent.kernel.addresses, pod.addresses[0])
                assert installed.plan.identities[number] == pod.labels

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_a_bundle_waits_for_the_inventory_and_is_refused_without(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("nodeagent.planner.VIEW_PATIENCE_SECONDS", 0.05)

    async def script(agent: Agent) -> None:
        with pytest.raises(StalledError):
            await agent.planner.take(make_channels(1, SHUT))
        assert agent.kernel.word.active is None

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_addresses_without_room_are_refused_with_an_alarm_until_there_is_room(tmp_path: Path):
    agent = Agent(ModelDatapath(), tmp_path, room=AddressRoom(addresses=2, prefixes=4))

    async def script(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1))
        assert _ingress(agent.kernel, REMOTE.address) is Outcome.UNSELECTED
        assert agent.planner.status.alarms == ()
        await agent.planner.take_feed((REMOTE,))
        await agent.settle()
        assert _ingress(agent.kernel, REMOTE.address) is None
        assert "1 addresses are refused" in agent.planner.status.alarms[0]
        await agent.planner.take_feed(())
        await agent.settle()
        assert agent.planner.status.alarms == ()
        assert _ingress(agent.kernel, REMOTE.address) is Outcome.UNSELECTED

    _scene(agent, script)


def test_an_endpoint_without_room_is_refused_everything_with_an_alarm(tmp_path: Path):
    async def script(agent: Agent) -> None:
        agent.kernel.failing.add("set_endpoint")
        await _see_node(agent)
        assert agent.kernel.attached_to == {7}
        assert agent.kernel.endpoints == {}
        assert "lxc1" in agent.planner.status.alarms[0]
        agent.kernel.failing.clear()
        agent.planner.retry_now()
        await agent.settle()
        assert set(agent.kernel.endpoints) == {7}
        assert agent.planner.status.alarms == ()

    _scene(Agent(ModelDatapath(), tmp_path), script)


def test_kernel_drift_is_seen(tmp_path: Path):
    agent = _scene(Agent(ModelDatapath(), tmp_path), _see_node)
    assert agent.enforcer.kernel_agrees()
    slot = agent.kernel.word.active
    held, label = agent.kernel.slots[slot]
    agent.kernel.slots[slot] = (replace(held, policy={}), label)
    assert not agent.enforcer.kernel_agrees()


def test_one_pod_that_cannot_be_attached_neither_refuses_a_bundle_nor_is_forgotten(tmp_path: Path):
    async def script(agent: Agent) -> None:
        agent.kernel.failing.add("attach")
        await _see_node(agent)
        await agent.planner.take(make_channels(1, SHUT))
        assert agent.planner.status.awaited_interfaces == ("lxc1",)
        agent.kernel.failing.clear()
        agent.planner.retry_now()
        await agent.settle()
        assert agent.planner.status.awaited_interfaces == ()
        assert agent.kernel.attached_to == {7}

    _scene(Agent(ModelDatapath(), tmp_path), script)
