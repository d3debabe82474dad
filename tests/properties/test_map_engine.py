"""Both sides of a flow at once: the map engine of the case runner decides as the evaluator."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings

from netpolicy.evaluate import Flow, evaluate
from netpolicy.rules import Protocol
from tests.support.map_engine import MapEngine
from tests.support.plan_strategies import clusters, policies


@settings(max_examples=40, deadline=None)
@given(cluster=clusters, some=policies())
def test_the_map_engine_decides_as_the_evaluator(cluster, some):
    ends = [cluster.end(address) for address in cluster.addresses]
    engine = MapEngine(some, ends)
    for source, destination in product(ends, ends):
        flow = Flow(source=source, destination=destination, protocol=Protocol.TCP, port=80)
        expected, found = evaluate(some, flow), engine.judge(flow)
        assert found.allowed == expected.allowed
        assert found.egress.outcome == expected.egress.outcome
        assert found.ingress.outcome == expected.ingress.outcome
