"""Endpoints of one identity share a table: pods cost an endpoint entry each, not a copy of the rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.plan import entry_bytes, many_pods
from nodeagent.plan.build import build_generation
from nodeagent.plan.generation import Generation, LocalEndpoint

PODS, LARGEST_SHARE = 100, 0.05


def separate(generations: list[Generation]) -> int:
    return sum(len(generation.policy) for generation in generations)


@pytest.mark.parametrize("ports", [1, 30], ids=["one port", "thirty ports"])
def test_a_hundred_pods_under_one_policy_cost_a_twentieth_of_tables_of_their_own(ports: int):
    policies, endpoints, identities = many_pods(PODS, ports=ports)
    shared = build_generation(policies, endpoints, identities)
    alone = [build_generation(policies, [one], identities) for one in endpoints]
    assert shared.policy
    assert len(shared.policy) <= LARGEST_SHARE * separate(alone)
    assert len({table.table for table in shared.endpoint_tables.values()}) == 1


def test_with_the_endpoints_own_entries_it_is_so_from_thirty_entries_on():
    policies, endpoints, identities = many_pods(PODS, ports=30)
    shared = build_generation(policies, endpoints, identities)
    alone = [build_generation(policies, [one], identities) for one in endpoints]
    assert entry_bytes(shared) <= LARGEST_SHARE * sum(map(entry_bytes, alone))


def test_a_pod_that_no_policy_of_the_others_selects_has_a_table_of_its_own():
    policies, endpoints, identities = many_pods(PODS, ports=1)
    other = max(identities) + 1
    stranger: LocalEndpoint = replace(endpoints[0], endpoint_id=PODS + 1, identity=other)
    unlabelled = {other: type(identities[endpoints[0].identity])()}
    generation = build_generation(policies, [*endpoints, stranger], {**identities, **unlabelled})
    assert len({table.table for table in generation.endpoint_tables.values()}) == 2
