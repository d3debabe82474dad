"""Which lifelines policies can cut on the kernel, and that each is open again after the way back.

    host ──▶ reconciler :7443   host ──▶ probed :8080    reconciler ──▶ git, kube-dns, api-server
                                                         probed     ──▶      kube-dns, api-server

Every lethal policy comes into force by a flip. Back leads: the agent's own confirmation, if it lost the
reconciler; else the reconciler's, if it lost Git; else an operator, on ways that must then be open.
What the host's own namespace sends (WireGuard, the kubelet's lease) meets no program of ours.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pytest

from netpolicy.rules import Action, Direction, Policy, Protocol
from nodeagent.datapath import GenerationLabel
from nodeagent.plan.generation import Generation
from nodeagent.plan.inputs import PlanInputs
from nodeagent.plan.model import identity_of, judge
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.rollout import confirm
from reconciler.rollout.lifeline import Contact, Lifeline, begun, ended, lifeline_of
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.plan import Plan, Stage, StageKind
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.lethal_policies import HOST, PODS, RECONCILER, SYSTEM_PODS, lethal_policies

pytestmark = pytest.mark.kernel

CONFIRM: Final = 30
BASE_SEQUENCE, LETHAL_SEQUENCE = 1, 2
ADDRESSES: Final = {pod.name: pod.addresses[0] for pod in PODS}
LETHAL: Final = tuple(lethal_policies())
ENDPOINTS: Final = {pod.addresses[0]: pod.endpoint_id for pod in PODS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Who must reach whom."""

    source: str
    to: str

    @property
    def target(self) -> tuple[str, Protocol, int]:
        """Address, protocol and port."""
        return (ADDRESSES[self.to], *SYSTEM_PODS[self.to])


TO_RECONCILER: Final = Way(source=HOST, to="reconciler")
PROBE: Final = Way(source=HOST, to="probed")
TO_GIT: Final = tuple(Way(source=RECONCILER, to=name) for name in ("git", "kube-dns"))
WAYS: Final = (
    TO_RECONCILER,
    PROBE,
    *TO_GIT,
    Way(source=RECONCILER, to="api-server"),
    Way(source=ADDRESSES["probed"], to="kube-dns"),
    Way(source=ADDRESSES["probed"], to="api-server"),
)


class UndoneBy(StrEnum):
    """Who leads back."""

    AGENT = "agent"
    RECONCILER = "reconciler"
    OPERATOR = "operator"


class Node:
    """A kernel with the base generation in force, and a slot for what is tried."""

    def __init__(self, engine: KernelEngine) -> None:
        self.engine = engine
        self.base = planned(())
        engine.load(self.base.generation, self.base.addresses, self.base.endpoints)
        self.base_slot = engine.datapath.control().active

    def flip_to(self, lethal: Policy) -> Generation:
        """Fill a spare slot with it, and put that in force beside the base."""
        plan = planned((lethal,))
        label = GenerationLabel(
            generation_digest=plan.generation.digest, bundle_digest="1" * 64, sequence=2
        )
        datapath = self.engine.datapath
        datapath.upsert_addresses(plan.addresses)
        datapath.activate(datapath.fill(plan.generation, label=label))
        return plan.generation

    def flip_back(self) -> None:
        """Put the very slot in force that was before."""
        self.engine.datapath.activate(self.base_slot)

    def open_ways(self) -> frozenset[Way]:
        """What the kernel lets through now, each asked with a new flow."""
        return frozenset(way for way in WAYS if self.engine.judge(way.source, *way.target).allowed)


def planned(policies: tuple[Policy, ...]) -> NodePlan:
    """The node with these policies; identities stay those of all policies."""
    return plan_node(
        PlanInputs(
            node="here",
            policies=policies,
            remembered=LETHAL,
            pods=PODS,
            node_addresses=(HOST,),
        )
    )


def open_in_model(generation: Generation, base: NodePlan) -> frozenset[Way]:
    """The same by the model of the maps."""

    def lets(endpoint: str, direction: Direction, peer: str, protocol: Protocol, port: int) -> bool:
        return judge(
            generation,
            endpoint_id=ENDPOINTS[endpoint],
            direction=direction,
            peer_identity=identity_of(base.addresses, peer),
            protocol=protocol,
            port=port,
        ).allowed

    def is_open(way: Way) -> bool:
        to, protocol, port = way.target
        leaves = way.source == HOST or lets(way.source, Direction.EGRESS, to, protocol, port)
        return leaves and lets(to, Direction.INGRESS, way.source, protocol, port)

    return frozenset(filter(is_open, WAYS))


def agent_goes_back(still_open: frozenset[Way]) -> bool:
    """What the agent's table decides, with the confirmation on the way that the kernel leaves."""
    begin = confirm.Begun(sequence=LETHAL_SEQUENCE, confirm_seconds=CONFIRM)
    trial, _ = confirm.step(confirm.Trial(), begin, now=0.0)
    if TO_RECONCILER in still_open:
        trial, _ = confirm.step(trial, confirm.Confirmed(sequence=LETHAL_SEQUENCE), now=1.0)
    _, command = confirm.step(trial, confirm.Ticked(), now=float(CONFIRM))
    return command is confirm.Command.TAKE_BACK


def reconciler_goes_back(still_open: frozenset[Way]) -> bool:
    """What the reconciler decides, with fetches that need names and Git itself."""
    rollout = Rollout(
        revision="r",
        stable="s",
        phase=Phase.PUBLISHED,
        plan=Plan(stages=(Stage(kind=StageKind.SHADOW, soak_seconds=0),), confirm_seconds=CONFIRM),
        sequence=LETHAL_SEQUENCE,
        since=100.0,
    )
    flip = 101.0
    before = Contact(began=90.0, answered=90.0)
    answered = still_open.issuperset(TO_GIT)
    after = ended(begun(before, now=flip + 1), answered=answered, now=flip + 2)
    return lifeline_of(rollout, after, [flip], now=flip + CONFIRM) is Lifeline.LOST


def undone_by(still_open: frozenset[Way]) -> UndoneBy:
    if agent_goes_back(still_open):
        return UndoneBy.AGENT
    return UndoneBy.RECONCILER if reconciler_goes_back(still_open) else UndoneBy.OPERATOR


@pytest.mark.slow
def test_whatever_a_policy_cuts_is_open_again_after_the_way_back() -> None:
    assert len(LETHAL) >= 200
    cut: Counter[Way] = Counter()
    back: Counter[UndoneBy] = Counter()
    with kernel_engine() as engine:
        node = Node(engine)
        assert node.open_ways() == frozenset(WAYS)
        for one in LETHAL:
            generation = node.flip_to(one)
            still_open = node.open_ways()
            assert still_open == open_in_model(generation, node.base), one.id
            if not any(rule.action is Action.DENY for rule in one.rules):
                assert PROBE in still_open, one.id  # silence never keeps the kubelet out
            cut.update(set(WAYS) - still_open)
            back[undone_by(still_open)] += 1
            node.flip_back()
            assert node.open_ways() == frozenset(WAYS), one.id
    assert set(cut) == set(WAYS), "each way is cut by some of them"
    assert set(back) == set(UndoneBy), "each way back is taken by some of them"


def test_an_operator_is_only_needed_where_the_ways_to_undo_are_open() -> None:
    for way in (TO_RECONCILER, *TO_GIT):
        assert undone_by(frozenset(WAYS) - {way}) is not UndoneBy.OPERATOR
