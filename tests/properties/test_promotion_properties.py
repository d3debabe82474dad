"""Whatever the policies: what is promoted is what was watched, and the way back is what was before."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings

from netpolicy.node_choice import NodeChoice
from netpolicy.rules import Policy
from tests.pipeline.test_agent_planning import Agent
from tests.support.agent_scene import INTERFACES, REMOTE, VIEW, make_bundle, make_channels
from tests.support.datapath_model import ModelDatapath
from tests.support.plan_strategies import policies

EVERYONE = NodeChoice(percent=100.0)
WRITES = {"upsert_addresses", "prune_addresses", "bump_revision"}
"""What a flip needs none of. (A preview of what was promoted may have to be filled beside it.)"""


async def promote_and_take_back(
    folder: Path, old: tuple[Policy, ...], new: tuple[Policy, ...], after: tuple[Policy, ...]
) -> None:
    """Through a rollout, its end, the next one, and its abortion."""
    agent, number = Agent(ModelDatapath(), folder), count(1)
    kernel = agent.kernel
    stable, candidate, third = (
        make_bundle(1, *some, name=name) for name, some in enumerate((old, new, after), start=1)
    )
    await agent.planner.take_interfaces(INTERFACES)
    agent.planner.take_view(VIEW)
    await agent.planner.take_feed((REMOTE,))
    await agent.planner.take(make_channels(next(number), stable=stable))
    for current, coming in ((stable, candidate), (candidate, third)):
        watched = await agent.planner.take(
            make_channels(next(number), stable=current, candidate=coming)
        )
        slots = kernel.word.active, kernel.word.candidate
        before = kernel.active
        kernel.history.clear()
        taken = await agent.planner.take(
            make_channels(next(number), stable=current, candidate=coming, nodes=EVERYONE)
        )
        assert taken.generation_digest == watched.candidate_generation_digest
        assert taken.candidate_generation_digest == taken.generation_digest
        assert taken.flipped == (kernel.word.active == slots[1])
        back = await agent.planner.take(
            make_channels(next(number), stable=current, candidate=coming)
        )
        assert (kernel.word.active, kernel.active) == (slots[0], before)
        assert back.generation_digest == watched.generation_digest
        assert back.candidate_generation_digest == watched.candidate_generation_digest
        await agent.planner.take(make_channels(next(number), stable=coming))
        assert not WRITES & set(kernel.history)
        assert kernel.active is not None
        assert kernel.active.digest == taken.generation_digest


@settings(max_examples=25, deadline=None)
@given(old=policies(), new=policies(), after=policies())
def test_promotion_and_rollback_only_choose_among_what_is_loaded(
    old: tuple[Policy, ...], new: tuple[Policy, ...], after: tuple[Policy, ...]
) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(promote_and_take_back(Path(folder), old, new, after))
