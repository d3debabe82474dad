"""From a packet to AUDIT flows: candidate and preview judge it too, and their policies are named.

test ── made packet ──▶ from_pod ──▶ ring ──▶ FlowPump ──▶ flow ring
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowRecord, FlowVerdict
from netpolicy.rules import Action, Direction, Mode, Policy, Protocol
from nodeagent.enforcer import Enforcer, PolicyOrigin
from nodeagent.flow_pump import FlowPump
from nodeagent.flows.ring import FlowRing
from nodeagent.plan.inputs import PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from tests.support import kernel_packets as packets
from tests.support.agent_scene import REMOTE, WEB
from tests.support.kernel_engine import TEST_INTERFACE, KernelEngine, kernel_engine
from tests.support.plan_strategies import out_to

pytestmark = pytest.mark.kernel

STABLE = PolicyOrigin(commit="aa" * 20, sequence=1, bundle_digest="a" * 64)
CANDIDATE = PolicyOrigin(commit="bb" * 20, sequence=1, bundle_digest="b" * 64)
OWN, FAR = WEB.addresses[0], "10.9.9.9"


def named(policy: Policy, name: str, mode: Mode = Mode.ENFORCE) -> Policy:
    return replace(policy, id=replace(policy.id, name=name), mode=mode)


OPEN, ELSEWHERE = out_to("10.0.0.0/8"), out_to("198.51.100.0/24")
SHUT = replace(OPEN, rules=tuple(replace(rule, action=Action.DENY) for rule in OPEN.rules))
PLAN = plan_node(
    PlanInputs(
        node="here",
        policies=(named(OPEN, "open"), named(SHUT, "tried", Mode.DRY_RUN)),
        has_preview=True,
        candidate=(named(ELSEWHERE, "next"),),
        pods=(WEB,),
        entries=(REMOTE,),
    )
)


@pytest.fixture
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as fresh:
        yield fresh


def send(engine: KernelEngine, plan: NodePlan) -> None:
    """One opening, from the pod to the world."""
    engine.datapath.set_endpoint(plan.endpoints[0], TEST_INTERFACE)
    opening = packets.opening(OWN, FAR, Protocol.TCP, 443, source_port=4000)
    engine.datapath.run_program(Direction.EGRESS, opening)


async def observed(engine: KernelEngine) -> dict[Shadow | None, FlowRecord]:
    """The flows of one packet, by who judged."""
    enforcer, ring = Enforcer(engine.datapath), FlowRing()
    await enforcer.enforce(PLAN, STABLE, candidate=CANDIDATE)
    pump = FlowPump(engine.datapath, enforcer, ring, "here")
    send(engine, PLAN)
    pump.start()
    pump.stop()
    return {flow.shadow: flow for columns in ring.kept() for flow in columns.records()}


def test_an_audit_names_the_policy_and_the_commit_of_the_shadow_that_judged(
    engine: KernelEngine,
) -> None:
    flows = asyncio.run(observed(engine))
    assert set(flows) == {None, Shadow.CANDIDATE, Shadow.PREVIEW}
    told = {
        shadow: (flow.verdict, flow.cause, [rule.policy.name for rule in flow.policies])
        for shadow, flow in flows.items()
    }
    audit = (FlowVerdict.AUDIT, Cause.WOULD_DENY)
    assert told[None] == (FlowVerdict.FORWARDED, None, ["open"])
    assert told[Shadow.CANDIDATE] == (*audit, ["next"])
    assert told[Shadow.PREVIEW] == (*audit, ["tried"])
    assert {flow.source.pod for flow in flows.values()} == {WEB.name}
    assert flows[Shadow.CANDIDATE].commit == CANDIDATE.commit
    assert flows[Shadow.PREVIEW].commit == flows[None].commit == STABLE.commit
