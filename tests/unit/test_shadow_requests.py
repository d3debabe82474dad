"""A request judged a second time: by the candidate's rules for its own flow, on what the log tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from netpolicy.address_book import AddressEntry
from netpolicy.drop_reasons import POLICY_DENIED, RATE_LIMITED
from netpolicy.ends import End, Flow
from netpolicy.evaluate import Decision, evaluate
from netpolicy.evidence import Cause, Difference, FlowSide, Shadow
from netpolicy.http_flow import form_of
from netpolicy.labels import Operator, Requirement, Selector, parse_labels, selector
from netpolicy.rules import (
    Action,
    Direction,
    HeaderMatch,
    HttpRule,
    L7Rules,
    Mode,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    RateLimit,
    Rule,
    RuleId,
    SecretRef,
    TlsContext,
)
from nodeagent.envoy.secret_values import header_secrets, with_values
from nodeagent.envoy.tls import Secrets
from nodeagent.flows.naming_requests import Places
from nodeagent.l7.requests import JudgedRequest
from nodeagent.l7.shadow_requests import MAX_REMEMBERED_PATH, Opinion, ShadowJudge
from nodeagent.plan.enforceable import WITH_PROXY
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.request_shadows import RequestShadows
from nodeagent.rollout.request_tally import RequestTally

API = End(labels=parse_labels(["k8s:app=api"]), address="10.0.0.2")
WEB = End(labels=parse_labels(["k8s:app=web"]), address="10.0.0.1")
JOB = End(labels=parse_labels(["k8s:app=job"]), address="10.0.0.3")
ID = PolicyId(kind=PolicyKind.CNP, namespace="shop", name="api")
GET_PRODUCTS = JudgedRequest(
    time_ns=1,
    direction=Direction.INGRESS,
    source="10.0.0.1",
    source_port=40_000,
    destination="10.0.0.2",
    destination_port=80,
    drop_reason=0,
    rule_set="ab" * 32,
    method="GET",
    path="/products",
    host="api",
)


def selecting(app: str) -> Selector:
    return selector([Requirement(key="app", operator=Operator.IN, values=(app,))])


def rule(origin: str, app: str, *http: HttpRule, port: int = 80, l7: bool = True) -> Rule:
    return Rule(
        direction=Direction.INGRESS,
        action=Action.ALLOW,
        origin=origin,
        peers=Peers(selectors=(selecting(app),)),
        ports=(Ports(protocol=Protocol.TCP, first=port, last=port),),
        l7=L7Rules(http=http) if l7 else None,
    )


def policy(*rules: Rule, mode: Mode = Mode.ENFORCE) -> Policy:
    return Policy(
        id=ID, subject=selecting("api"), default_deny=(Direction.INGRESS,), rules=rules, mode=mode
    )


def judge(*rules: Rule, mode: Mode = Mode.ENFORCE) -> ShadowJudge:
    return ShadowJudge(Shadow.CANDIDATE, [policy(*rules, mode=mode)])


def entry(end: End) -> AddressEntry:
    return AddressEntry(address=end.address, labels=end.labels)


def opinion(found: ShadowJudge, request: JudgedRequest = GET_PRODUCTS) -> Opinion | None:
    return found.opinion(request, WEB if request.source == WEB.address else JOB, API)


def test_what_the_candidate_lets_pass_too_is_no_difference() -> None:
    assert opinion(judge(rule("ingress[0]", "web", HttpRule(path="/products")))) == Opinion()


def test_a_request_that_the_candidate_would_refuse_names_the_rules_it_fails() -> None:
    found = opinion(judge(rule("ingress[0]", "web", HttpRule(path="/other"))))
    blamed = (RuleId(policy=ID, origin="ingress[0]"),)
    assert found == Opinion(cause=Cause.WOULD_DENY, rules=blamed)


def test_a_refused_request_that_the_candidate_lets_pass_names_the_rule_that_does() -> None:
    refused = GET_PRODUCTS._replace(drop_reason=POLICY_DENIED)
    one = judge(
        rule("ingress[0]", "web", HttpRule(path="/other")),
        rule("ingress[1]", "web", HttpRule(method="GET")),
    )
    allowed = (RuleId(policy=ID, origin="ingress[1]"),)
    assert opinion(one, refused) == Opinion(cause=Cause.WOULD_ALLOW, rules=allowed)


def test_flows_of_one_listener_are_each_judged_by_their_own_rules() -> None:
    one = judge(
        rule("ingress[0]", "web", HttpRule(path="/products")),
        rule("ingress[1]", "job", HttpRule(path="/jobs")),
    )
    assert opinion(one) == Opinion()
    found = opinion(one, GET_PRODUCTS._replace(source="10.0.0.3"))
    assert found is not None
    assert found.cause is Cause.WOULD_DENY


LIMIT = RateLimit(requests=5, seconds=1, burst=5)
LIMITED = rule("ingress[0]", "web", HttpRule(path="/products", rate_limit=LIMIT))
ENDED = replace(
    rule("ingress[0]", "web", HttpRule(path="/products")),
    terminating_tls=TlsContext(secret=SecretRef(namespace="shop", name="web")),
)


@pytest.mark.parametrize("tried", [LIMITED, ENDED], ids=["a limit", "ended TLS"])
@pytest.mark.parametrize("reason", [0, POLICY_DENIED])
def test_a_request_that_a_new_limit_or_tls_is_for_is_said_to_be_not_observed(
    tried: Rule, reason: int
) -> None:
    by = (RuleId(policy=ID, origin="ingress[0]"),)
    found = opinion(judge(tried), GET_PRODUCTS._replace(drop_reason=reason))
    assert found == Opinion(cause=Cause.NOT_OBSERVED, rules=by)


@pytest.mark.parametrize("tried", [LIMITED, ENDED], ids=["a limit", "ended TLS"])
def test_a_limit_and_tls_that_are_in_force_already_are_nothing_new(tried: Rule) -> None:
    same = ShadowJudge(Shadow.CANDIDATE, [policy(tried)], [policy(tried)])
    assert opinion(same) == Opinion()


def test_a_request_that_passes_without_the_new_limit_too_was_observed() -> None:
    free = HttpRule(method="GET")
    beside = rule("ingress[1]", "web", free)
    assert opinion(judge(LIMITED, beside)) == Opinion()
    assert (
        opinion(
            judge(rule("ingress[0]", "web", HttpRule(path="/products", rate_limit=LIMIT), free))
        )
        == Opinion()
    )


def test_what_a_new_limit_is_not_for_is_judged_like_any_other() -> None:
    found = opinion(judge(LIMITED), GET_PRODUCTS._replace(path="/other"))
    assert found is not None
    assert found.cause is Cause.WOULD_DENY


def test_a_policy_of_mode_dry_run_judges_in_a_preview() -> None:
    found = opinion(judge(rule("ingress[0]", "web", HttpRule(path="/other")), mode=Mode.DRY_RUN))
    assert found is not None
    assert found.cause is Cause.WOULD_DENY


@pytest.mark.parametrize("request_", [
    GET_PRODUCTS._replace(rule_set="", drop_reason=POLICY_DENIED),
    GET_PRODUCTS._replace(drop_reason=RATE_LIMITED),
    GET_PRODUCTS._replace(destination_port=81),
])  # fmt: skip
def test_what_no_rule_judged_and_flows_refused_as_a_whole_are_left_to_others(
    request_: JudgedRequest,
) -> None:
    assert opinion(judge(rule("ingress[0]", "web", HttpRule(path="/other"))), request_) is None


@pytest.mark.parametrize(("told", "expected"), [
    ({}, Opinion(is_known=False)),
    ({"x-team": "blue"}, Opinion()),
    ({"x-team": "red"}, Opinion(cause=Cause.WOULD_DENY, rules=(RuleId(policy=ID, origin="i"),))),
    ({"x-team": None}, Opinion(cause=Cause.WOULD_DENY, rules=(RuleId(policy=ID, origin="i"),))),
])  # fmt: skip
def test_headers_count_as_the_log_tells_them_and_never_as_missing_where_it_does_not(
    told: dict[str, str | None], expected: Opinion
) -> None:
    one = judge(rule("i", "web", HttpRule(headers=(("X-Team", "blue"),))))
    assert opinion(one, GET_PRODUCTS._replace(headers=told)) == expected


@pytest.mark.parametrize(("secrets", "cause"), [
    ({("shop", "token"): {"value": "x"}}, None),
    ({("shop", "token"): {"value": "y"}}, Cause.WOULD_DENY),
    ({}, Cause.WOULD_DENY),
])  # fmt: skip
def test_a_secret_counts_with_what_it_holds_and_matches_nothing_where_it_is_not(
    secrets: Secrets, cause: Cause | None
) -> None:
    match = HeaderMatch(name="Token", secret=SecretRef(namespace="shop", name="token"))
    given = policy(rule("i", "web", HttpRule(header_matches=(match,))))
    found = opinion(
        ShadowJudge(Shadow.CANDIDATE, with_values([given], secrets)),
        GET_PRODUCTS._replace(headers={"token": "x"}),
    )
    assert found is not None
    assert (found.cause, found.is_known) == (cause, True)
    assert header_secrets([given]) == {match.secret}


def test_policies_that_differ_in_requests_only_give_generations_of_other_digests() -> None:
    """Else nobody could say that what is enforced is what was observed."""

    def planned(path: str) -> NodePlan:
        given = policy(rule("ingress[0]", "web", HttpRule(path=path)))
        pod = LocalPod(
            endpoint_id=1, labels=API.labels, interface="tg-api", namespace="shop", name="api",
            addresses=(API.address,),
        )  # fmt: skip
        inputs = PlanInputs(
            node="here",
            policies=(given,),
            pods=(pod,),
            entries=(entry(WEB),),
            capabilities=WITH_PROXY,
        )
        return plan_node(inputs)

    one, again, other = planned("/a"), planned("/a"), planned("/b")
    assert one.generation.policy == other.generation.policy
    assert one.generation.digest == again.generation.digest
    assert one.generation.digest != other.generation.digest


def test_only_what_began_since_the_shadow_stands_can_lack_a_header_that_it_asks_for() -> None:
    shadows = RequestShadows()
    asking = policy(rule("i", "web", HttpRule(headers=(("X-Team", "blue"),))))
    plan = plan_node(
        PlanInputs(
            node="here",
            candidate=(asking,),
            entries=(entry(WEB), entry(API)),
            capabilities=WITH_PROXY,
        )
    )
    shadows.follow(plan, now_ns=10)
    requests = [GET_PRODUCTS._replace(time_ns=at) for at in (9, 10, 11)]
    assert not list(shadows.rulings(requests, Places(plan)))
    assert shadows.tallies[Shadow.CANDIDATE].standing().omitted == 2


def counted_where_enforced(
    request: JudgedRequest, *former: Policy, now: Policy | None = None
) -> list[tuple[Cause, tuple[str, ...], str]]:
    """What a node that enforces a candidate counts of a request, if the policies before were these."""
    shadows = RequestShadows()
    enforced = now or policy(rule("ingress[7]", "web", HttpRule(path="/other")))
    plan = plan_node(
        PlanInputs(
            node="here",
            policies=(enforced,),
            candidate=former,
            candidate_is_former=True,
            entries=(entry(WEB), entry(API)),
            capabilities=WITH_PROXY,
        )
    )
    shadows.follow(plan, now_ns=0)
    audits = list(shadows.rulings([request], Places(plan)))
    assert {ruling.shadow for _, ruling in audits} <= {Shadow.FORMER}
    found = shadows.tallies[Shadow.CANDIDATE].standing().differences
    assert len(audits) == len(found)
    return [
        (one.cause, tuple(rule.origin for rule in one.rules), str(one.request)) for one in found
    ]


REFUSED = GET_PRODUCTS._replace(drop_reason=POLICY_DENIED)
UNREAD = policy(rule("ingress[0]", "web", l7=False))
NO_HTTP = REFUSED._replace(
    rule_set="",
    method="",
    path="",
    host="shop.example",
    protocol="TLS",
)


def test_what_an_enforced_candidate_refuses_of_what_passed_before_is_counted_as_denied() -> None:
    cut = [(Cause.WOULD_DENY, ("ingress[7]",), "GET /products")]
    read = policy(rule("ingress[0]", "web", HttpRule(path="/products")))
    limited = policy(rule("ingress[0]", "web", HttpRule(path="/products", rate_limit=LIMIT)))
    for former in ((UNREAD,), (read,), (limited,), ()):
        assert counted_where_enforced(REFUSED, *former) == cut
    refusing = policy(rule("ingress[0]", "web", HttpRule(path="/elsewhere")))
    assert counted_where_enforced(REFUSED, refusing) == []
    assert counted_where_enforced(GET_PRODUCTS, UNREAD) == []


def test_what_an_enforced_candidate_lets_pass_that_was_refused_before_is_counted_as_allowed() -> (
    None
):
    refusing = policy(rule("ingress[0]", "web", HttpRule(path="/elsewhere")))
    now = policy(rule("ingress[7]", "web", HttpRule(path="/products")))
    allowed = [(Cause.WOULD_ALLOW, ("ingress[7]",), "GET /products")]
    assert counted_where_enforced(GET_PRODUCTS, refusing, now=now) == allowed


def test_what_could_not_be_read_was_cut_by_the_candidate_only_if_nobody_looked_before() -> None:
    assert counted_where_enforced(NO_HTTP, UNREAD) == [
        (Cause.WOULD_DENY, ("ingress[7]",), "TLS shop.example")
    ]
    assert counted_where_enforced(NO_HTTP, policy(rule("ingress[0]", "web", HttpRule()))) == []


@pytest.mark.parametrize(("path", "form"), [
    ("/products?page=2", "/products"),
    ("/users/42/orders", "/users/{number}/orders"),
    ("/a/0b7c1f2e-1111-2222-3333-444455556666", "/a/{uuid}"),
    ("/blobs/deadbeef01", "/blobs/{hex}"),
    ("/facade/deadbeef", "/facade/deadbeef"),
    ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/…"),
    ("/\x1b[0m", "/\\x1b[0m"),
    ("", ""),
])  # fmt: skip
def test_the_form_of_a_path_leaves_out_what_differs_in_each_request(path: str, form: str) -> None:
    assert form_of("GET", path).path == form


def test_a_tally_has_a_bound_and_what_was_taken_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nodeagent.rollout.request_tally.MAX_DIFFERENCES", 2)
    counts = RequestTally()
    for path in ("/a", "/b", "/a", "/c"):
        counts.add(
            Difference(
                source=FlowSide(),
                destination=FlowSide(),
                protocol=6,
                port=80,
                direction=Direction.INGRESS,
                cause=Cause.WOULD_DENY,
                request=form_of("GET", path),
            )
        )
    counts.add_unknown()
    assert counts.standing().omitted == 2
    taken = counts.take()
    assert sorted(taken.differences.values()) == [1, 2]
    assert counts.take().differences == {}


@pytest.mark.parametrize(("length", "asked"), [(10, 1), (MAX_REMEMBERED_PATH, 2)])
def test_a_request_is_judged_once_unless_its_path_is_long_and_would_have_to_be_kept(
    monkeypatch: pytest.MonkeyPatch, length: int, asked: int
) -> None:
    judged: list[Flow] = []

    def counted(policies: Iterable[Policy], flow: Flow) -> Decision:
        judged.append(flow)
        return evaluate(policies, flow)

    monkeypatch.setattr("nodeagent.l7.shadow_requests.evaluate", counted)
    found = judge(rule("ingress[0]", "web", HttpRule(path="/x*")))
    request = GET_PRODUCTS._replace(path=f"/{'x' * length}")
    assert opinion(found, request) == opinion(found, request) == Opinion()
    assert len(judged) == asked
