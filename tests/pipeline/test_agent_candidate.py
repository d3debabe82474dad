"""A candidate on a datapath in memory: watched, promoted by a flip of what was watched, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from netpolicy.entities import ReservedIdentity
from netpolicy.evaluate import Outcome
from netpolicy.evidence import Cause, Role, Shadow
from netpolicy.identity import node_labels
from netpolicy.node_choice import NodeChoice
from netpolicy.rules import AuthMode, Direction, Mode, Policy, Protocol
from nodeagent.datapath import KernelDifference
from tests.pipeline.test_agent_planning import Agent, _ingress, _scene, _see_node
from tests.support.agent_scene import REMOTE, VIEW, WEB, make_bundle, make_channels
from tests.support.datapath_model import ModelDatapath
from tests.support.plan_strategies import out_to, policy, web_from_anyone

EVERYONE = NodeChoice(percent=100.0)
SHUT = policy("shut", default_deny=tuple(Direction))
OPEN = make_bundle(1, web_from_anyone(), out_to("192.0.2.0/24"), name=1)
CLOSED = make_bundle(2, SHUT, out_to("198.51.100.0/24"), name=2)
SHADOWED = make_channels(2, stable=OPEN, candidate=CLOSED)
PROMOTED = make_channels(3, stable=OPEN, candidate=CLOSED, nodes=EVERYONE)

IN_ZONE_A = replace(VIEW, node_labels=node_labels(ReservedIdentity.HOST, {"zone": "a"}))

Script = Callable[[Agent], Awaitable[None]]


def play(tmp_path: Path, script: Script, kernel: ModelDatapath | None = None) -> Agent:
    """Run a script on an agent that enforces `OPEN`."""

    async def scene(agent: Agent) -> None:
        await _see_node(agent)
        await agent.planner.take(make_channels(1, stable=OPEN))
        await script(agent)

    return _scene(Agent(kernel or ModelDatapath(), tmp_path), scene)


def test_a_candidate_is_loaded_beside_the_stable_generation_and_judges_nothing(
    tmp_path: Path,
) -> None:
    async def script(agent: Agent) -> None:
        taken = await agent.planner.take(SHADOWED)
        kernel = agent.kernel
        assert taken.role is Role.SHADOW
        assert kernel.word.candidate is not None
        held, label = kernel.slots[kernel.word.candidate]
        assert held.digest == taken.candidate_generation_digest
        assert label.bundle_digest == CLOSED.digest
        assert kernel.active is not None
        assert kernel.active.digest == taken.generation_digest
        assert _ingress(kernel, "10.0.9.9") is Outcome.ALLOWED
        meaning = agent.enforcer.meanings[kernel.word.revision]
        assert meaning is not None
        assert meaning.shadows[Shadow.CANDIDATE].commit == CLOSED.revision

    play(tmp_path, script)


def test_promotion_flips_the_very_slot_that_was_observed(tmp_path: Path) -> None:
    async def script(agent: Agent) -> None:
        watched = await agent.planner.take(SHADOWED)
        kernel, slot = agent.kernel, agent.kernel.word.candidate
        before = kernel.word.active
        kernel.history.clear()
        taken = await agent.planner.take(PROMOTED)
        assert (taken.role, taken.flipped) == (Role.ENFORCING, True)
        assert taken.generation_digest == watched.candidate_generation_digest
        assert (kernel.word.active, kernel.word.candidate) == (slot, before)  # asked in its turn
        assert not {"fill", "upsert_addresses", "bump_revision"} & set(kernel.history)
        assert _ingress(kernel, "10.0.9.9") is Outcome.DENIED_BY_DEFAULT

    play(tmp_path, script)


def test_a_candidate_that_becomes_stable_changes_nothing_where_it_is_enforced(
    tmp_path: Path,
) -> None:
    async def script(agent: Agent) -> None:
        await agent.planner.take(SHADOWED)
        await agent.planner.take(PROMOTED)
        word, digest = agent.kernel.word, agent.kernel.active
        taken = await agent.planner.take(make_channels(4, stable=replace(CLOSED, sequence=4)))
        assert (agent.kernel.word.active, agent.kernel.active) == (word.active, digest)
        assert (taken.role, taken.flipped) == (Role.NONE, False)
        label = agent.enforcer.active_label
        assert label is not None
        assert (label.sequence, label.bundle_digest) == (4, CLOSED.digest)

    play(tmp_path, script)


def test_a_rollback_flips_back_to_the_generation_that_was_in_force(tmp_path: Path) -> None:
    async def script(agent: Agent) -> None:
        before = await agent.planner.take(SHADOWED)
        slot = agent.kernel.word.active
        await agent.planner.take(PROMOTED)
        agent.kernel.history.clear()
        taken = await agent.planner.take(make_channels(4, stable=OPEN))
        assert taken.generation_digest == before.generation_digest
        assert agent.kernel.word.active == slot
        assert not {"fill", "upsert_addresses", "prune_addresses"} & set(agent.kernel.history)
        assert _ingress(agent.kernel, "10.0.9.9") is Outcome.ALLOWED

    play(tmp_path, script)


def test_new_identities_are_planned_into_the_enforced_and_the_watched_generation(
    tmp_path: Path,
) -> None:
    async def script(agent: Agent) -> None:
        await agent.planner.take(SHADOWED)
        await agent.planner.take_feed((REMOTE,))
        await agent.settle()
        kernel, number = agent.kernel, agent.kernel.addresses.exact["10.0.9.9"]
        assert kernel.word.active is not None
        assert kernel.word.candidate is not None
        for slot in (kernel.word.active, kernel.word.candidate):
            assert number in kernel.slots[slot][0].class_of
        first, last = (
            kernel.history.index("upsert_addresses"),
            len(kernel.history) - 1 - kernel.history[::-1].index("set_shadows"),
        )
        assert first < last
        installed = agent.enforcer.installed
        assert installed is not None
        assert installed.plan.candidate is not None
        taken = await agent.planner.take(PROMOTED)
        assert taken.generation_digest == installed.plan.candidate.digest

    play(tmp_path, script)


def beyond_this_agent() -> Policy:
    """A policy that this agent's kernel side cannot enforce."""
    asking = web_from_anyone()
    rules = tuple(replace(rule, authentication=AuthMode.REQUIRED) for rule in asking.rules)
    return replace(asking, rules=rules)


def test_a_candidate_that_cannot_be_carried_leaves_the_stable_channel_in_force(
    tmp_path: Path,
) -> None:
    async def script(agent: Agent) -> None:
        impossible = make_bundle(2, beyond_this_agent(), name=9)
        before = agent.kernel.active
        for number, nodes in ((2, NodeChoice()), (3, EVERYONE)):
            channels = make_channels(number, stable=OPEN, candidate=impossible, nodes=nodes)
            taken = await agent.planner.take(channels)
            assert taken.role is Role.NONE
            assert agent.kernel.active == before
            assert agent.kernel.word.candidate is None
            assert agent.planner.standing is not None
            assert "cannot enforce" in agent.planner.standing.error

    play(tmp_path, script)


def counted(cause: Cause, *, count: int = 3, source: int = 2) -> KernelDifference:
    """Flows from the world to the web pod."""
    return KernelDifference(
        source_identity=source,
        destination_identity=2,
        protocol=Protocol.TCP,
        port=443,
        direction=Direction.INGRESS,
        cause=cause,
        reason=133,
        cookie=0,
        count=count,
        last_seen_ns=1,
    )


def test_what_the_candidate_cuts_once_it_is_enforced_is_counted_against_it(tmp_path: Path) -> None:
    async def script(agent: Agent) -> None:
        await agent.planner.take(SHADOWED)
        kernel = agent.kernel
        installed = agent.enforcer.installed
        assert installed is not None
        (web,) = {one.identity for one in installed.plan.endpoints if one.name == WEB.name}
        seen = replace(counted(Cause.WOULD_DENY), destination_identity=web)
        kernel.differences[Shadow.CANDIDATE] = (seen,)
        assert await agent.planner.evidence() is not None
        taken = await agent.planner.take(PROMOTED)
        tried_again = replace(counted(Cause.WOULD_ALLOW, count=99), destination_identity=web)
        came_now = replace(tried_again, port=8080, count=7)
        kernel.differences[Shadow.CANDIDATE] = (tried_again, came_now)
        found = await agent.planner.evidence()
        assert found is not None
        assert (found.role, found.candidate_digest) == (Role.ENFORCING, CLOSED.digest)
        assert found.generation_digest == taken.generation_digest
        assert {(one.cause, one.port, one.count) for one in found.differences} == {
            (Cause.WOULD_DENY, 443, 3),
            (Cause.WOULD_DENY, 8080, 7),
        }
        (new,) = (one for one in found.differences if one.port == 8080)
        assert [rule.policy.name for rule in new.rules] == ["shut"]
        meaning = agent.enforcer.meanings[kernel.word.revision]
        assert meaning.shadows[Shadow.CANDIDATE].is_former

    play(tmp_path, script)


def test_what_is_counted_of_a_preview_outlives_its_generations_and_ends_with_its_bundle(
    tmp_path: Path,
) -> None:
    dry = make_bundle(2, web_from_anyone(), replace(SHUT, mode=Mode.DRY_RUN))

    async def script(agent: Agent) -> None:
        await agent.planner.take(make_channels(2, stable=dry))
        agent.kernel.differences[Shadow.PREVIEW] = (counted(Cause.WOULD_DENY),)
        for _ in range(2):  # what the kernel counted, then what was folded in of it
            seen = await agent.planner.preview_evidence()
            assert seen is not None
            assert (seen.candidate_digest, seen.role) == (dry.digest, Role.SHADOW)
            assert [one.count for one in seen.differences] == [3]
            await agent.planner.take_feed((REMOTE,))  # another identity: another generation
            await agent.settle()
            agent.kernel.differences.clear()
        assert await agent.planner.evidence() is None  # there is no candidate
        await agent.planner.take(make_channels(3, stable=OPEN))
        assert await agent.planner.preview_evidence() is None

    play(tmp_path, script)


def test_policies_that_are_not_enforced_here_are_previewed(tmp_path: Path) -> None:
    dry = make_bundle(2, web_from_anyone(), replace(SHUT, mode=Mode.DRY_RUN))

    async def script(agent: Agent) -> None:
        await agent.planner.take(make_channels(2, stable=dry))
        kernel = agent.kernel
        assert _ingress(kernel, "10.0.9.9") is Outcome.ALLOWED
        assert kernel.word.preview is not None
        preview = kernel.slots[kernel.word.preview][0]
        assert preview.digest != kernel.active.digest
        await agent.planner.take(make_channels(3, stable=make_bundle(3, web_from_anyone())))
        assert kernel.word.preview is None

    play(tmp_path, script)


def test_a_canary_node_enforces_canary_policies(tmp_path: Path) -> None:
    canary = make_bundle(2, replace(SHUT, mode=Mode.CANARY))

    async def script(agent: Agent) -> None:
        labels = (("zone", "a"),)
        await agent.planner.take(make_channels(2, stable=canary, canary_nodes=labels))
        assert _ingress(agent.kernel, "10.0.9.9") is Outcome.UNSELECTED
        agent.planner.take_view(IN_ZONE_A)
        await agent.settle()
        assert _ingress(agent.kernel, "10.0.9.9") is Outcome.DENIED_BY_DEFAULT
        assert agent.kernel.word.preview is None

    play(tmp_path, script)


def test_a_restart_keeps_the_shadow_that_the_kernel_holds(tmp_path: Path) -> None:
    async def script(agent: Agent) -> None:
        await agent.planner.take(SHADOWED)

    kernel = play(tmp_path, script).kernel
    word = kernel.word
    kernel.history.clear()
    restarted = Agent(kernel, tmp_path, SHADOWED)

    async def again(agent: Agent) -> None:
        await _see_node(agent)
        await asyncio.sleep(0)

    _scene(restarted, again)
    assert (kernel.word.active, kernel.word.candidate) == (word.active, word.candidate)
    assert kernel.word.revision == word.revision
    assert "fill" not in kernel.history
