"""Nodes selected by their labels: this node as the local host, another as a remote node."""

from __future__ import annotations

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.identity import node_labels
from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.labels import Selector, equals, selector
from netpolicy.rules import (
    Action,
    Direction,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Protocol,
    Rule,
)
from nodeagent.endpoints.local_pods import local_view
from nodeagent.plan.inputs import PlanInputs
from nodeagent.plan.model import identity_of, judge
from nodeagent.plan.node_plan import NodePlan, plan_node

HERE, FAR, BARE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def cluster(here_zone: str) -> Inventory:
    return Inventory(
        nodes=(
            Node(name="here", addresses=(HERE,), labels={"zone": here_zone}),
            Node(name="far", addresses=(FAR,), labels={"zone": "a"}),
            Node(name="bare", addresses=(BARE,)),
        ),
        pods=(
            Pod(namespace="shop", name="web", node="here", addresses=("10.0.0.1",), interface="w"),
        ),
    )


ZONE_A = Policy(
    id=PolicyId(kind=PolicyKind.CNP, namespace="shop", name="p"),
    subject=Selector(),
    default_deny=(Direction.INGRESS,),
    rules=(
        Rule(
            direction=Direction.INGRESS,
            action=Action.ALLOW,
            origin="ingress[0]",
            peers=Peers(selectors=(selector([equals("zone", "a", source="node")]),)),
        ),
    ),
)


def planned(here_zone: str, *, before: NodePlan | None = None) -> NodePlan:
    view = local_view(cluster(here_zone), "here")
    inputs = PlanInputs(
        node="here",
        policies=(ZONE_A,),
        pods=view.pods,
        entries=view.entries,
        node_addresses=view.node_addresses,
        node_labels=view.node_labels,
        admit_local_host=False,
    )
    return plan_node(inputs, kept=before.numbers if before else None)


def admits(plan: NodePlan, address: str) -> bool:
    return judge(
        plan.generation,
        endpoint_id=plan.endpoints[0].endpoint_id,
        direction=Direction.INGRESS,
        peer_identity=identity_of(plan.addresses, address),
        protocol=Protocol.TCP,
        port=80,
    ).allowed


def test_nodes_with_the_label_are_meant_and_no_others():
    plan = planned("a")
    assert [admits(plan, address) for address in (HERE, FAR, BARE)] == [True, True, False]
    assert not admits(planned("b"), HERE)


def test_the_local_host_keeps_its_number_when_its_labels_change():
    before = planned("a")
    after = planned("b", before=before)
    for plan in (before, after):
        assert identity_of(plan.addresses, HERE) == ReservedIdentity.HOST
    assert after.identities[ReservedIdentity.HOST] == node_labels(
        ReservedIdentity.HOST, {"zone": "b"}
    )
    assert len(set(after.identities.values())) == len(after.identities)


def test_a_node_without_labels_is_the_reserved_identity():
    labels = node_labels(ReservedIdentity.REMOTE_NODE, {})
    assert labels == RESERVED_LABELS[ReservedIdentity.REMOTE_NODE]
