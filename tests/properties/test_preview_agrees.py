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
from reconciler.preview.export import NO_REQUEST, Observed, Tuple
from reconciler.preview.seen_ends import EndReader, SeenEnd
from tests.support.plan_strategies import SmallCluster, clusters, policies

PORTS = [(Protocol.TCP, 80), (Protocol.TCP, 443), (Protocol.UDP, 53), (Protocol.ICMP, 8)]


def everything_seen(cluster: SmallCluster) -> Observed:
    """Each end of a cluster speaks to each other on some ports, the first of them twice."""
    observed = Observed(ends=EndReader(), ports=PORTS)
    observed.ends.seen = [SeenEnd(end=cluster.end(a), name=a) for a in cluster.addresses]
    ends = range(len(cluster.addresses))
    for source, destination, port in [(0, 0, 0), *product(ends, ends, range(len(PORTS)))]:
        observed.source.append(source)
        observed.destination.append(destination)
        observed.port.append(port)
    return observed


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(clusters, policies(), policies())
def test_what_changes_is_what_the_evaluator_judges_differently(
    cluster: SmallCluster, before: tuple[Policy, ...], after: tuple[Policy, ...]
) -> None:
    observed = everything_seen(cluster)
    changes = Comparison(observed, before, after).changes()
    found = dict.fromkeys(changes.cut, (True, False)) | dict.fromkeys(changes.opened, (False, True))
    for row in range(1, len(observed)):
        one = Tuple(observed.source[row], observed.destination[row], observed.port[row], NO_REQUEST)
        protocol, port = PORTS[one.port]
        flow = Flow(
            source=observed.ends.seen[one.source].end,
            destination=observed.ends.seen[one.destination].end,
            protocol=protocol,
            port=port,
        )
        judged = (evaluate(before, flow).allowed, evaluate(after, flow).allowed)
        assert found.get(one, (judged[0],) * 2) == judged, (one, judged)
        times = changes.cut[one] + changes.opened[one]
        assert times == (judged[0] != judged[1]) * (2 if row == 1 else 1)


@settings(max_examples=30, deadline=None)
@given(clusters, policies(), st.randoms())
def test_the_same_policies_in_any_order_change_nothing(
    cluster: SmallCluster, some: tuple[Policy, ...], random: object
) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    changes = Comparison(everything_seen(cluster), some, shuffled).changes()
    assert (changes.cut, changes.opened) == ({}, {})
