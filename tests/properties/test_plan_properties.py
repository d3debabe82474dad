"""What must hold of the plan in every small world: the maps mean what the evaluator says."""

from __future__ import annotations

from itertools import product

from hypothesis import example, given, settings
from hypothesis import strategies as st

from netpolicy.evaluate import Flow, Side, evaluate, peers_match
from netpolicy.rules import Action, Direction, Mode, Policy, Protocol
from nodeagent.plan.addresses import policy_prefixes
from nodeagent.plan.model import Judgement, identity_of, judge
from tests.support.plan_strategies import (
    ONE_POD,
    Planned,
    SmallCluster,
    clusters,
    plan,
    policies,
    web_from_anyone,
)

PROBES = tuple(product((Protocol.TCP, Protocol.UDP), (0, 8, 53, 79, 80, 443, 8080, 65535))) + tuple(
    (Protocol.ICMP, kind) for kind in (0, 8, 53, 255)
)

EDGES = sorted(
    {edge + by for edge in (1, 8, 53, 80, 443, 8080) for by in (-1, 0, 1)} | {65534, 65535}
)
"""Where drawn ranges begin and end, and the ports beside."""


def _judged(planned: Planned, cluster: SmallCluster, here: int, peer: str, direction: Direction,
            probe: tuple[Protocol, int]) -> Judgement:  # fmt: skip
    return judge(
        planned.generation,
        endpoint_id=here + 1,
        direction=direction,
        peer_identity=identity_of(planned.addresses, peer),
        protocol=probe[0],
        port=probe[1],
    )


def _expected(some: tuple[Policy, ...], cluster: SmallCluster, here: int, peer: str,
              direction: Direction, probe: tuple[Protocol, int], admit: bool) -> Side:  # fmt: skip
    own, other = cluster.end(cluster.pods[here][0]), cluster.end(peer)
    egress = direction is Direction.EGRESS
    flow = Flow(
        source=own if egress else other,
        destination=other if egress else own,
        protocol=probe[0],
        port=probe[1],
    )
    decision = evaluate(some, flow, admit_local_host=admit)
    return decision.egress if egress else decision.ingress


@settings(max_examples=150, deadline=None)
@example(
    cluster=ONE_POD,
    some=(web_from_anyone(),),
    admit=True,
    direction=Direction.INGRESS,
    probe=(Protocol.TCP, 80),
)
@given(
    cluster=clusters,
    some=policies(),
    admit=st.booleans(),
    direction=st.sampled_from(tuple(Direction)),
    probe=st.sampled_from(PROBES),
)
def test_the_map_model_says_what_the_evaluator_says(cluster, some, admit, direction, probe):
    planned = plan(cluster, some, admit=admit)
    for here, peer in product(range(cluster.local), cluster.addresses):
        expected = _expected(some, cluster, here, peer, direction, probe, admit)
        found = _judged(planned, cluster, here, peer, direction, probe)
        assert (found.allowed, found.outcome) == (expected.passes, expected.outcome), peer
        assert set(found.rules) <= set(expected.rules)
        assert bool(found.rules) == bool(expected.rules)


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=policies())
def test_classes_never_merge_identities_that_a_rule_tells_apart(cluster, some):
    planned = plan(cluster, some)
    locals_ = [labels for _, labels in cluster.pods[: cluster.local]]
    rules = [
        rule
        for policy in some
        if policy.mode is Mode.ENFORCE and any(policy.subject.matches(own) for own in locals_)
        for rule in policy.rules
        # A port name that an end does not declare makes the rule tell nobody apart by it.
        if rule.ports is None or any(not ports.name for ports in rule.ports)
    ]
    seen: dict[int, tuple[bool, ...]] = {}
    for peer in cluster.addresses:
        peer_class = planned.generation.class_of[identity_of(planned.addresses, peer)]
        matched = tuple(peers_match(rule.peers, cluster.end(peer)) for rule in rules)
        assert seen.setdefault(peer_class, matched) == matched, peer


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=policies())
def test_port_classes_never_merge_ports_that_a_rule_tells_apart(cluster, some):
    generation = plan(cluster, some).generation
    locals_ = [labels for _, labels in cluster.pods[: cluster.local]]
    ranges = [
        ports
        for policy in some
        if policy.mode is Mode.ENFORCE and any(policy.subject.matches(own) for own in locals_)
        for rule in policy.rules
        for ports in rule.ports or ()
        if not ports.name
    ]
    for protocol in {ports.protocol for ports in ranges}:
        seen: dict[int, frozenset[int]] = {}
        for port in EDGES if protocol is not Protocol.ICMP else range(256):
            port_class = generation.port_class_of[int(protocol)][port]
            within = frozenset(
                index
                for index, ports in enumerate(ranges)
                if ports.protocol is protocol and ports.first <= port <= ports.last
            )
            assert seen.setdefault(port_class, within) == within, port
            assert port_class != 0 or not within, port


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=policies(), data=st.data())
def test_the_order_of_policies_and_rules_of_the_cluster_never_changes_the_digest(
    cluster, some, data
):
    shuffled = tuple(data.draw(st.permutations(some)))
    first, second = plan(cluster, some), plan(cluster, shuffled)
    assert first.generation.digest == second.generation.digest
    assert first.generation == second.generation
    assert first.addresses == second.addresses


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=policies(), denies=policies(st.just(Action.DENY)),
       direction=st.sampled_from(tuple(Direction)), probe=st.sampled_from(PROBES))  # fmt: skip
def test_adding_a_deny_never_adds_an_allow(cluster, some, denies, direction, probe):
    renamed = tuple(
        Policy(
            id=type(p.id)(kind=p.id.kind, namespace="deny", name=p.id.name),
            subject=p.subject,
            default_deny=p.default_deny,
            rules=p.rules,
        )
        for p in denies
    )
    before, after = plan(cluster, some), plan(cluster, (*some, *renamed))
    for here, peer in product(range(cluster.local), cluster.addresses):
        was = _judged(before, cluster, here, peer, direction, probe).allowed
        now = _judged(after, cluster, here, peer, direction, probe).allowed
        assert was or not now, peer


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=policies())
def test_every_planned_address_has_a_class_and_every_named_prefix_stands(cluster, some):
    planned = plan(cluster, some)
    numbers = {*planned.addresses.exact.values(), *planned.addresses.prefixes.values()}
    assert numbers <= set(planned.generation.class_of)
    assert policy_prefixes(some) <= set(planned.addresses.prefixes)
    assert {"0.0.0.0/0", "::/0"} <= set(planned.addresses.prefixes)


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=policies())
def test_a_stranger_without_an_identity_is_always_refused(cluster, some):
    planned = plan(cluster, some)
    for direction in Direction:
        found = judge(
            planned.generation,
            endpoint_id=1,
            direction=direction,
            peer_identity=None,
            protocol=Protocol.TCP,
            port=80,
        )
        assert not found.allowed
