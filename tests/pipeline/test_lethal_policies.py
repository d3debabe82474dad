"""Policies that cut off what a cluster lives by: none keeps its operators out for longer than `confirm`.

Each runs through a real installer and planner over a datapath in memory. The agent's way to its
reconciler is the model's verdict: a confirmation comes only while both directions of it are open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, cast

import pytest

from netpolicy.rules import Direction, Policy, Protocol
from nodeagent.plan.model import identity_of, judge
from nodeagent.receive.installer import Installer
from nodeagent.receive.store import BundleStore, HeldBundle, StoredBundle
from nodeagent.receive.trial_file import TrialFile
from nodeagent.receive.verify import SignedSet
from nodeagent.rollout.channels import Channels
from nodeagent.rollout.confirm import Stage
from tests.pipeline.test_agent_planning import Agent
from tests.support.agent_scene import VIEW, make_bundle, make_channels
from tests.support.datapath_model import ModelDatapath
from tests.support.lethal_policies import HOST, PODS, SYSTEM_PODS, lethal_policies

pytestmark = pytest.mark.slow

CONFIRM: Final = 1
ON_NODE: Final = replace(VIEW, pods=PODS)
INTERFACES: Final = {pod.interface: 20 + number for number, pod in enumerate(PODS)}


@dataclass
class Node:
    """One agent's installer, planner and kernel."""

    folder: Path
    agent: Agent = field(init=False)
    installer: Installer = field(init=False)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.agent = Agent(ModelDatapath(), self.folder)
        self.installer = Installer(
            BundleStore(self.folder, trusted_root=b""),
            TrialFile(self.folder),
            apply=self.agent.planner.take,
            clock=lambda: 0.0,
            trial_now=lambda: self.now,
        )

    @property
    def sees_reconciler(self) -> bool:
        """True if what the node's host asks of the reconciler's pod is let in."""
        kernel = self.agent.kernel
        judged = judge(
            kernel.active,
            endpoint_id=PODS[0].endpoint_id,
            direction=Direction.INGRESS,
            peer_identity=identity_of(kernel.addresses, HOST),
            protocol=Protocol.TCP,
            port=SYSTEM_PODS["reconciler"][1],
        )
        return judged.allowed

    async def take(self, channels: Channels) -> None:
        """What the receiver does with a publication: install it, say so, hear the answer or not."""
        stored = StoredBundle(metadata={}, units={}, clock_floor=0)
        signed = cast("SignedSet", None)
        await self.installer.install(HeldBundle(channels=channels, signed=signed, stored=stored))
        if self.sees_reconciler:
            await self.installer.confirm(channels.sequence)


async def survive(folder: Path, lethal: Policy) -> bool:
    """Put a policy in force on a node; True if the node had to go back by itself."""
    node = Node(folder)
    planner = asyncio.create_task(node.agent.planner.run())
    watch = asyncio.create_task(node.installer.watch_trial())
    try:
        await node.agent.planner.take_interfaces(INTERFACES)
        node.agent.planner.take_view(ON_NODE)
        await node.agent.settle()
        await node.take(make_channels(1, confirm_seconds=CONFIRM))
        before = node.agent.kernel.active
        await node.take(make_channels(2, stable=make_bundle(2, lethal), confirm_seconds=CONFIRM))
        was_cut = not node.sees_reconciler
        node.now = CONFIRM
        async with asyncio.timeout(CONFIRM + 20):
            while node.installer.trial.stage is Stage.AWAITING or node.agent.planner.busy:
                await asyncio.sleep(0.02)
            while not node.sees_reconciler:
                await asyncio.sleep(0.02)
        assert (node.installer.trial.stage is Stage.REVERTED) == was_cut, lethal.id
        assert (node.agent.kernel.active == before) == was_cut, lethal.id
        # Whatever else it cuts: the way is open on which it is undone.
        await node.take(make_channels(3, stable=make_bundle(1), confirm_seconds=CONFIRM))
        assert node.installer.trial.stage is Stage.SETTLED
        assert node.agent.kernel.active == before
    finally:
        planner.cancel()
        watch.cancel()
    return was_cut


def test_no_lethal_policy_keeps_the_operators_out(tmp_path: Path) -> None:
    lethal = lethal_policies()
    assert len(lethal) >= 200

    async def scenario() -> list[bool]:
        nodes = [tmp_path / str(number) for number in range(len(lethal))]
        for folder in nodes:
            folder.mkdir()
        return await asyncio.gather(
            *(survive(folder, one) for folder, one in zip(nodes, lethal, strict=True))
        )

    cut = asyncio.run(scenario())
    assert 10 < sum(cut) < len(lethal)
