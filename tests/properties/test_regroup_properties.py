"""A generation that is carried on, change by change, is at every step the one that is built anew.

A walk changes a small world at random: pods come, go and change labels, here and elsewhere. Three
thousand steps a run; TIDEGATE_SEED repeats one.
"""

from __future__ import annotations

import os
import random
import secrets
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from netpolicy.ends import NamedPort
from netpolicy.identity import pod_labels
from netpolicy.inventory import AddressEntry, service_entries
from netpolicy.labels import Labels, equals, selector
from netpolicy.rules import Action, Direction, Peers, Policy, Ports, Protocol, Rule
from netpolicy.services import ClusterService, ServicePort
from nodeagent.plan.generation import PolicyKey
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.plan.regroup import regroup
from tests.support.plan_strategies import NODE_ADDRESS, policies, policy

WALKS, STEPS = 50, 30
CROWD = 3
SEED = int(os.environ.get("TIDEGATE_SEED", "0")) or secrets.randbits(32)
PORTS = (
    (),
    (),
    (NamedPort(name="web", protocol=Protocol.TCP, port=80),),
    (NamedPort(name="web", protocol=Protocol.TCP, port=443),),
)


def _allow(number: int, direction: Direction, peers: dict[str, str], port: str = "") -> Rule:
    wanted = [equals(key, value, source="any") for key, value in peers.items()]
    return Rule(
        direction=direction,
        action=Action.ALLOW,
        origin=f"{direction.word}[{number}]",
        peers=Peers(selectors=(selector(wanted),)),
        ports=(Ports(protocol=Protocol.TCP, name=port),) if port else None,
    )


TELLING_APART = (
    policy(
        "kinds",
        _allow(0, Direction.INGRESS, {"app": "a"}),
        _allow(1, Direction.INGRESS, {"app": "b", "tier": "c"}),
        default_deny=(Direction.INGRESS,),
    ),
    policy("names", _allow(0, Direction.EGRESS, {"app": "b"}, port="web")),
    policy("own-names", _allow(0, Direction.INGRESS, {"tier": "b"}, port="web")),
)
"""Drawn policies seldom tell pods apart; each walk has some of these beside them."""


SERVICES = tuple(
    ClusterService(
        namespace="a",
        name=app,
        addresses=(f"10.96.0.{number}",),
        selector={"app": app},
        ports=(
            ServicePort(protocol=Protocol.TCP, port=80, target=8080),
            ServicePort(protocol=Protocol.TCP, port=81, target_name="web"),
        ),
    )
    for number, app in enumerate("ab")
)


def some_labels(dice: random.Random) -> Labels:
    labels = {"app": dice.choice("ab"), "tier": dice.choice("bc"), "copy": dice.choice("1234")}
    return pod_labels(
        cluster="default",
        namespace=dice.choice("ab"),
        labels={key: value for key, value in labels.items() if dice.random() < 0.7},
        namespace_labels={},
        ports=dice.choice(PORTS),
    )


@dataclass
class Walk:
    """Pods by number, here and elsewhere; endpoint ids are never used twice."""

    dice: random.Random
    here: dict[int, Labels] = field(default_factory=dict)
    elsewhere: dict[int, Labels] = field(default_factory=dict)
    next_number: int = 1

    def step(self) -> None:
        where = self.dice.choice((self.here, self.elsewhere, self.elsewhere))
        # Few at a time, so that the last pod of a kind leaves every now and then.
        if where and self.dice.random() < len(where) / (2 * CROWD):
            number = self.dice.choice(sorted(where))
            if self.dice.random() < 0.3:
                where[number] = some_labels(self.dice)
            else:
                del where[number]
            return
        where[self.next_number] = some_labels(self.dice)
        self.next_number += 1

    def inputs(self, some: tuple[Policy, ...]) -> PlanInputs:
        return PlanInputs(
            node="here",
            policies=some,
            has_preview=True,
            pods=tuple(
                LocalPod(
                    endpoint_id=number,
                    namespace="n",
                    name=str(number),
                    labels=own,
                    addresses=(address(number),),
                    interface=f"veth{number}",
                )
                for number, own in self.here.items()
            ),
            entries=tuple(
                AddressEntry(address=address(number), labels=own, namespace="n", name=str(number))
                for number, own in self.elsewhere.items()
            )
            + tuple(entry for service in SERVICES for entry in service_entries(service)),
            node_addresses=(NODE_ADDRESS,),
        )


def address(number: int) -> str:
    return f"172.16.{number // 256}.{number % 256}"


@dataclass
class Tally:
    """How many steps went which way."""

    steps: int = 0
    carried: int = 0


@pytest.mark.slow
def test_carrying_on_equals_building_anew_at_every_step():
    tally = Tally()

    @seed(SEED)
    @settings(max_examples=WALKS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        drawn=policies(),
        fixed=st.lists(st.sampled_from(TELLING_APART), unique_by=lambda p: p.id, max_size=3),
        dice=st.integers(0, 2**32),
    )
    def walk(drawn, fixed, dice):
        some = (*drawn, *fixed)
        pods = Walk(random.Random(dice))
        held = plan_node(pods.inputs(some))
        for _ in range(STEPS):
            pods.step()
            inputs = pods.inputs(some)
            anew = plan_node(inputs, kept=held.numbers)
            carried = plan_node(inputs, kept=held.numbers, before=held)
            _assert_equal(carried, anew)
            tally.steps += 1
            _assert_touched(held, carried)
            tally.carried += regroup(held.built, anew.endpoints, anew.identities) is not None
            held = carried

    print(f"seed {SEED}")
    walk()
    print(f"{tally.steps} steps, {tally.carried} of them carried on")
    assert tally.steps >= WALKS * STEPS
    assert tally.steps / 4 < tally.carried < tally.steps * 0.95


def _assert_equal(carried: NodePlan, anew: NodePlan) -> None:
    assert carried.generation == anew.generation
    assert carried.generation.digest == anew.generation.digest
    assert carried.built.parts == anew.built.parts
    assert carried.addresses == anew.addresses
    assert carried == anew


def _assert_touched(before: NodePlan, after: NodePlan) -> None:
    """What is said to be touched is all that differs."""
    if after.carried is None:
        return
    was, now = before.addresses.exact, after.addresses.exact
    assert after.carried.before is before.addresses
    assert {a for a in {**was, **now} if was.get(a) != now.get(a)} <= after.carried.touched


def planned(*pods: tuple[int, Labels], some: tuple[Policy, ...], before: NodePlan | None = None):
    walk = Walk(random.Random(0), elsewhere=dict(pods), here={1: LABELS["a"]})
    kept = before.numbers if before else None
    return plan_node(walk.inputs(some), kept=kept, before=before)


LABELS = {
    app: pod_labels(cluster="default", namespace="a", labels={"app": app}, namespace_labels={})
    for app in ("a", "b")
}
TWIN = pod_labels(
    cluster="default", namespace="a", labels={"app": "b", "copy": "2"}, namespace_labels={}
)


@settings(max_examples=30, deadline=None)
@given(some=policies())
def test_a_pod_of_a_known_kind_costs_one_class_entry_and_no_rule(some):
    before = planned((2, LABELS["b"]), some=some)
    after = planned((2, LABELS["b"]), (3, TWIN), some=some, before=before)
    # No drawn rule looks at the label in which the twins differ.
    assert regroup(before.built, after.endpoints, after.identities) is not None
    old, new = before.generation, after.generation
    assert new.policy is old.policy
    assert new.port_class_of is old.port_class_of
    added = dict(new.class_of.items() - old.class_of.items())
    assert added == {after.numbers[TWIN]: old.class_of[after.numbers[LABELS["b"]]]}
    assert not old.class_of.items() - new.class_of.items()


@settings(max_examples=30, deadline=None)
@given(some=policies())
def test_every_class_that_a_rule_names_has_an_identity_in_it(some):
    generation = planned((2, LABELS["b"]), (3, TWIN), some=some).generation
    named = {key.peer_class for key in generation.policy if isinstance(key, PolicyKey)} - {0}
    assert named <= set(generation.class_of.values())
