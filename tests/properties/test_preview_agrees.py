"""A replayed flow changes exactly if the evaluator judges it differently under the two policy sets."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy.ends import Flow
from netpolicy.evaluate import evaluate
from netpolicy.rules import Policy, Protocol
from reconciler.preview.compare import Comparison
from reconciler.preview.observed import Observed
from reconciler.preview.seen_ends import SeenEnd
from tests.support.plan_strategies import SmallCluster, clusters, policies

PORTS = [(Protocol.TCP, 80), (Protocol.TCP, 443), (Protocol.UDP, 53), (Protocol.ICMP, 8)]


def everything_seen(cluster: SmallCluster) -> Observed:
    """Each end of a cluster speaks to each other on some ports."""
    ends = [SeenEnd(end=cluster.end(a), name=a) for a in cluster.addresses]
    observed = Observed(ends=ends, ports=PORTS)
    numbers = range(len(ends))
    for source, destination, port in product(numbers, numbers, range(len(PORTS))):
        observed.sources[destination, port].append(source)
    return observed


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(clusters, policies(), policies())
def test_what_changes_is_what_the_evaluator_judges_differently(
    cluster: SmallCluster, before: tuple[Policy, ...], after: tuple[Policy, ...]
) -> None:
    observed = everything_seen(cluster)
    comparison = Comparison(observed, before, after)
    for (destination, number), sources in observed.sources.items():
        changed = comparison.changed((destination, number), sources)
        protocol, port = PORTS[number]
        for source in sources:
            flow = Flow(
                source=observed.ends[source].end,
                destination=observed.ends[destination].end,
                protocol=protocol,
                port=port,
            )
            judged = (evaluate(before, flow).allowed, evaluate(after, flow).allowed)
            told = (source in changed.cut, source in changed.opened)
            assert told == (judged == (True, False), judged == (False, True)), (flow, judged)


@settings(max_examples=30, deadline=None)
@given(clusters, policies(), st.randoms())
def test_the_same_policies_in_any_order_change_nothing(
    cluster: SmallCluster, some: tuple[Policy, ...], random: object
) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    observed = everything_seen(cluster)
    comparison = Comparison(observed, some, shuffled)
    for served, sources in observed.sources.items():
        changed = comparison.changed(served, sources)
        assert not changed.cut | changed.opened
