"""What two revisions differ in, where a policy's subject and its notes are concerned."""

from __future__ import annotations

from dataclasses import replace

from netpolicy.labels import Selector, equals, selector
from netpolicy.rules import Policy, PolicyId, PolicyKind, Unit
from reconciler.compile.difference import difference

POLICY = Policy(
    id=PolicyId(kind=PolicyKind.CCNP, namespace="", name="p"),
    subject=Selector(),
    log_value="note",
)


def said(after: Policy) -> str:
    return difference([_unit(POLICY)], [_unit(after)]).to_text()


def _unit(policy: Policy) -> Unit:
    return Unit(namespace="", policies=(policy,))


def test_nodes_in_place_of_pods_are_a_difference():
    assert "~ selects every node (was anyone)" in said(replace(POLICY, selects_nodes=True))


def test_nodes_are_told_by_their_labels():
    chosen = selector([equals("zone", "a", source="node")])
    assert "selects nodes with node:zone=a" in said(
        replace(POLICY, subject=chosen, selects_nodes=True)
    )


def test_another_note_is_a_difference():
    assert "~ logs nothing (was note)" in said(replace(POLICY, log_value=""))
