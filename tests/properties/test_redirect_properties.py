"""What a proxy is told of a flow, in every small world, is what the evaluator says of its requests."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from netpolicy.evaluate import Flow, Side, evaluate
from netpolicy.l7 import HttpRequest, request_passes
from netpolicy.rules import (
    Action,
    CidrBlock,
    Direction,
    HttpRule,
    L7Rules,
    Peers,
    Policy,
    Ports,
    Protocol,
    Rule,
)
from nodeagent.l7.listeners import NO_LISTENERS, Listeners
from nodeagent.l7.rule_sets import RuleSet
from nodeagent.plan.build import ENFORCED, Built, build, in_force
from nodeagent.plan.generation import Verdict
from nodeagent.plan.model import Judgement, identity_of, judge
from nodeagent.plan.redirects import ProxyPorts
from nodeagent.plan.regroup import regroup
from tests.support.plan_strategies import (
    ONE_POD,
    Planned,
    SmallCluster,
    clusters,
    plan,
    policies,
    policy,
)

pytestmark = pytest.mark.slow

PATHS = ("/a", "/b")
PROBES = (*((Protocol.TCP, port) for port in (0, 53, 80, 443, 8080)), (Protocol.UDP, 53))
REQUESTS = tuple(HttpRequest(method="GET", path=path) for path in (*PATHS, "/c"))


@st.composite
def http_policies(draw: st.DrawFn) -> tuple[Policy, ...]:
    """Policies of which many rules for TCP ports look into requests."""
    drawn = draw(policies())
    return tuple(
        replace(one, rules=tuple(draw(_maybe_http(rule)) for rule in one.rules)) for one in drawn
    )


def _maybe_http(rule: Rule) -> st.SearchStrategy[Rule]:
    tcp = tuple(p for p in rule.ports or () if p.protocol is Protocol.TCP)
    if rule.action is Action.DENY or not tcp:
        return st.just(rule)
    paths = st.lists(st.sampled_from(PATHS), max_size=2, unique=True)
    http = paths.map(lambda some: tuple(HttpRule(path=path) for path in some))
    looking = http.map(lambda rules: replace(rule, ports=tcp, l7=L7Rules(http=rules)))
    return st.one_of(looking, looking, st.just(rule))


def _http(direction: Direction, *paths: str, peers: Peers | None = None) -> Rule:
    return Rule(
        direction=direction,
        action=Action.ALLOW,
        origin=f"{direction.word}[{len(paths)}]",
        peers=peers,
        ports=(Ports(protocol=Protocol.TCP, first=80, last=80),),
        l7=L7Rules(http=tuple(HttpRule(path=path) for path in paths)),
    )


def _plain(direction: Direction, cidr: str) -> Rule:
    return Rule(
        direction=direction,
        action=Action.ALLOW,
        origin=f"{direction.word}[9]",
        peers=Peers(cidrs=(CidrBlock(cidr=cidr),)),
    )


def _built(planned: Planned, some: tuple[Policy, ...], standing: Listeners = NO_LISTENERS) -> Built:
    return build(
        in_force(some, ENFORCED),
        planned.endpoints,
        planned.identities,
        admit_local_host=True,
        proxy=ProxyPorts(standing=standing),
    )


def _judged(built: Built, planned: Planned, here: int, peer: str, direction: Direction,
            probe: tuple[Protocol, int]) -> Judgement:  # fmt: skip
    return judge(
        built.generation,
        endpoint_id=here + 1,
        direction=direction,
        peer_identity=identity_of(planned.addresses, peer),
        protocol=probe[0],
        port=probe[1],
    )


def _expected(some: tuple[Policy, ...], cluster: SmallCluster, here: int, peer: str,
              direction: Direction, probe: tuple[Protocol, int],
              request: HttpRequest | None) -> Side:  # fmt: skip
    own, other = cluster.end(cluster.pods[here][0]), cluster.end(peer)
    egress = direction is Direction.EGRESS
    flow = Flow(
        source=own if egress else other,
        destination=other if egress else own,
        protocol=probe[0],
        port=probe[1],
        request=request,
    )
    decision = evaluate(some, flow)
    return decision.egress if egress else decision.ingress


def _passes(rule_set: RuleSet, request: HttpRequest) -> bool:
    asked = [rule.l7 for rule in rule_set.rules if rule.l7 is not None]
    return rule_set.allows_everything or request_passes(asked, request)


@settings(max_examples=120, deadline=None)
@example(
    cluster=ONE_POD,
    some=(policy("p", _http(Direction.EGRESS, "/a"), _plain(Direction.EGRESS, "10.0.0.0/8")),),
    direction=Direction.EGRESS,
    probe=(Protocol.TCP, 80),
)
@given(
    cluster=clusters,
    some=http_policies(),
    direction=st.sampled_from(tuple(Direction)),
    probe=st.sampled_from(PROBES),
)
def test_the_rule_set_behind_a_flows_port_lets_the_same_requests_pass(
    cluster, some, direction, probe
):
    planned = plan(cluster, some)
    built = _built(planned, some)
    sets = {(one.port, one.direction): one.rule_set for one in built.listeners.listeners}
    for here, peer in product(range(cluster.local), cluster.addresses):
        found = _judged(built, planned, here, peer, direction, probe)
        side = _expected(some, cluster, here, peer, direction, probe, None)
        assert (found.allowed, found.outcome) == (side.passes, side.outcome), peer
        assert (found.verdict is Verdict.REDIRECT) == (side.passes and side.redirected), peer
        assert set(found.rules) <= set(side.rules)
        if found.verdict is not Verdict.REDIRECT:
            continue
        rule_set = sets[found.proxy_port, direction]
        assert {rule.id for rule in rule_set.rules} == set(side.rules)
        for request in REQUESTS:
            wanted = _expected(some, cluster, here, peer, direction, probe, request).passes
            assert _passes(rule_set, request) == wanted, (peer, request)


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=http_policies(), then=http_policies())
def test_a_port_goes_on_to_other_rules_only_with_all_its_flows(cluster, some, then):
    planned = plan(cluster, (*some, *then))
    before = _built(planned, some)
    after = _built(planned, then, before.listeners)
    moved = {}
    for here, peer, direction, probe in product(
        range(cluster.local), cluster.addresses, Direction, PROBES
    ):
        was = _judged(before, planned, here, peer, direction, probe).proxy_port
        now = _judged(after, planned, here, peer, direction, probe).proxy_port
        if was:
            moved.setdefault(was, set()).add(now)
    old = {one.port: one.rule_set for one in before.listeners.listeners}
    new = {one.port: one.rule_set for one in after.listeners.listeners}
    for port, now in moved.items():
        if port in new and new[port] != old[port]:
            others = {new[other] for other in now if other} - {new[port]}
            assert not others, "flows of the former rules went elsewhere"


@settings(max_examples=60, deadline=None)
@given(cluster=clusters, some=http_policies())
def test_the_same_policies_keep_every_port_and_so_the_digest(cluster, some):
    planned = plan(cluster, some)
    first = _built(planned, some)
    saved = Listeners(seats=first.listeners.seats, left=first.listeners.left)
    assert _built(planned, some, saved).generation == first.generation
    carried = regroup(first, planned.endpoints, planned.identities)
    assert carried is not None
    assert carried.listeners == first.listeners
