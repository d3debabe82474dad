"""Where a node stands in a publication: which policies it enforces, and which it only watches."""

from __future__ import annotations

from dataclasses import replace

from netpolicy.entities import ReservedIdentity
from netpolicy.evidence import Role
from netpolicy.identity import node_labels
from netpolicy.node_choice import NodeChoice, place_of
from netpolicy.rules import Mode
from nodeagent.rollout.channels import EVERYWHERE, ON_CANARY_NODES, standing, without_candidate
from tests.support.agent_scene import make_bundle, make_channels
from tests.support.plan_strategies import policy

CANARY = node_labels(ReservedIdentity.HOST, {"canary": "yes"})
PLAIN = node_labels(ReservedIdentity.HOST, {"zone": "a"})
STABLE, CANDIDATE = make_bundle(1, policy("old")), make_bundle(1, policy("new"), name=2)
BY_LABEL = NodeChoice(labels=(("canary", "yes"),))


def test_without_a_candidate_there_is_no_role() -> None:
    stand = standing(make_channels(1, stable=STABLE), node="n", labels=CANARY)
    assert (stand.role, stand.enforced, stand.watched) == (Role.NONE, STABLE, None)


def test_the_chosen_enforce_the_candidate_and_the_others_watch_it() -> None:
    channels = make_channels(1, stable=STABLE, candidate=CANDIDATE, nodes=BY_LABEL)
    chosen = standing(channels, node="n", labels=CANARY)
    assert (chosen.role, chosen.enforced, chosen.watched) == (Role.ENFORCING, CANDIDATE, None)
    other = standing(channels, node="n", labels=PLAIN)
    assert (other.role, other.enforced, other.watched) == (Role.SHADOW, STABLE, CANDIDATE)


def test_a_wave_takes_nodes_by_their_place() -> None:
    place = place_of("s", "n")
    for percent, role in ((place - 0.001, Role.SHADOW), (place + 0.001, Role.ENFORCING)):
        choice = NodeChoice(percent=percent, salt="s")
        channels = make_channels(1, stable=STABLE, candidate=CANDIDATE, nodes=choice)
        assert standing(channels, node="n", labels=PLAIN).role is role


def test_a_pod_label_makes_no_node_a_canary() -> None:
    channels = make_channels(1, stable=STABLE, candidate=CANDIDATE, nodes=BY_LABEL)
    reserved = node_labels(ReservedIdentity.HOST, {})
    assert standing(channels, node="canary", labels=reserved).role is Role.SHADOW


def test_canary_policies_are_enforced_on_canary_nodes_only_and_dry_runs_nowhere() -> None:
    channels = make_channels(1, stable=STABLE, canary_nodes=(("canary", "yes"),))
    assert standing(channels, node="n", labels=CANARY).modes == ON_CANARY_NODES
    assert standing(channels, node="n", labels=PLAIN).modes == EVERYWHERE
    nowhere = make_channels(1, stable=STABLE)
    assert standing(nowhere, node="n", labels=CANARY).modes == EVERYWHERE
    assert Mode.DRY_RUN not in ON_CANARY_NODES | EVERYWHERE


def test_a_preview_is_wanted_where_some_policy_is_not_enforced() -> None:
    canary = make_bundle(1, replace(policy("c"), mode=Mode.CANARY), policy("p"))
    channels = make_channels(1, stable=canary, canary_nodes=(("canary", "yes"),))
    assert standing(channels, node="n", labels=PLAIN).has_preview
    assert not standing(channels, node="n", labels=CANARY).has_preview


def test_a_node_that_cannot_carry_the_candidate_stays_with_the_stable_channel() -> None:
    channels = make_channels(1, stable=STABLE, candidate=CANDIDATE, nodes=BY_LABEL)
    stand = without_candidate(channels, labels=CANARY, error="too large")
    assert (stand.role, stand.enforced, stand.watched) == (Role.NONE, STABLE, None)
    assert stand.error == "too large"
