"""Entries of the proxy's log, the flows they become, and how they are shown and counted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from netpolicy.drop_reasons import POLICY_DENIED, RATE_LIMITED
from netpolicy.evaluate import Outcome
from netpolicy.evidence import AnswerCounts, Cause, Shadow
from netpolicy.flow import FlowVerdict, flow_json, flow_text
from netpolicy.http_flow import MAX_PATH, HttpExchange
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from netpolicy.wire.envoy.v3 import access_log_pb2 as pb
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb_agent
from nodeagent.cli_render import print_status
from nodeagent.flows.naming_requests import Judged, Places, ShadowRuling, name_requests
from nodeagent.l7.access_log import REFUSED as REFUSED_BY_RULES
from nodeagent.l7.access_log import route_name, rule_name
from nodeagent.l7.log_losses import beginning, looked
from nodeagent.l7.request_counts import BUCKET_SECONDS, Kind, RequestCounts, answers_of
from nodeagent.l7.requests import JudgedRequest, judged_request, refused_connection
from nodeagent.local_api_messages import flows_message, flows_of, request_status_message
from nodeagent.metrics import agent_metrics
from tests.support.flow_samples import sample_batch

POLICY = PolicyId(kind=PolicyKind.CNP, namespace="shop", name="api")
RULES = (RuleId(policy=POLICY, origin="ingress[0]"), RuleId(policy=POLICY, origin="ingress[1]"))
SET = "ab" * 32


class Served:
    """One rule set, served on one port."""

    def rules_of(self, digest: str) -> tuple[RuleId, ...]:
        return RULES if digest == SET else ()

    def rules_at(self, direction: Direction, port: int) -> tuple[RuleId, ...]:
        return RULES if (direction, port) == (Direction.INGRESS, 20_000) else ()


JUDGED = Judged(
    node="node-a",
    places=Places(),
    served=Served(),
    revision=7,
    commit="c0ffee",
)
REFUSED = JudgedRequest(
    time_ns=1_795_238_794_123_000_000,
    direction=Direction.INGRESS,
    source="10.0.1.1",
    source_port=41234,
    destination="10.0.1.2",
    destination_port=80,
    drop_reason=POLICY_DENIED,
    exchange=HttpExchange(
        method="POST", path="/products", host="shop", code=403, latency_ns=340_000
    ),
    rule_set=SET,
)
PASSED = replace(
    REFUSED, drop_reason=0, rule=1, exchange=replace(REFUSED.exchange, method="GET", code=200)
)


BY_RULE = route_name(SET, f"{rule_name(1)}.0")


def entry(details: str = "", route: str = BY_RULE, **request: bytes) -> pb.HttpEntry:
    """An entry of the log, as Envoy sends it."""
    made = pb.HttpEntry(protocol_version=pb.HTTP2, request=pb.RequestProperties(**request))
    made.response.response_code_details = details.encode()
    made.common_properties.route_name = route.encode()
    return made


@pytest.mark.parametrize(
    ("told", "reason", "rule"),
    [
        (entry(details="via_upstream"), 0, 1),
        (entry(route=route_name(SET, REFUSED_BY_RULES)), POLICY_DENIED, None),
        (entry(details="local_rate_limited"), RATE_LIMITED, 1),
        (entry(details="upgrade_failed"), POLICY_DENIED, None),
        (entry(route="", details="http1.codec_error"), POLICY_DENIED, None),
    ],
)
def test_what_no_rule_let_through_counts_as_refused(
    told: pb.HttpEntry, reason: int, rule: int | None
) -> None:
    found = judged_request(told, Direction.EGRESS)
    assert (found.drop_reason, found.rule) == (reason, rule)


def test_an_entry_that_says_nothing_of_rules_is_left_as_it_was() -> None:
    told = entry(route="")
    before = told.SerializeToString(deterministic=True)
    judged_request(told, Direction.INGRESS)
    assert told.SerializeToString(deterministic=True) == before


def test_what_a_client_wrote_is_shown_bounded_and_escaped_and_judged_whole() -> None:
    path = b"/\x1b[31m\xff" + b"x" * 5000
    found = judged_request(entry(path=path), Direction.INGRESS)
    assert found.exchange.path.startswith("/\\x1b[31m\\xff")
    assert found.exchange.path.isprintable()
    assert len(found.exchange.path) == MAX_PATH
    assert found.path.encode("utf-8", "surrogateescape") == path


@pytest.mark.parametrize(("where", "text", "status"), [
    ("response_trailers", b"7", 7),
    ("response_headers", b"0", 0),
    ("response_headers", b"-1", None),
    ("response_headers", b"9999999999", None),
])  # fmt: skip
def test_the_status_of_a_grpc_answer_is_in_its_trailers_or_headers(
    where: str, text: bytes, status: int | None
) -> None:
    told = entry()
    getattr(told.response, where)["grpc-status"] = text
    assert judged_request(told, Direction.INGRESS).exchange.grpc_status == status


def test_a_refused_request_is_blamed_on_every_rule_that_lets_others_pass() -> None:
    (flow,) = name_requests([REFUSED], JUDGED).records()
    assert (flow.verdict, flow.outcome) == (FlowVerdict.DROPPED, Outcome.DENIED_BY_REQUEST)
    assert flow.policies == RULES
    assert flow_text(flow).endswith(
        "10.0.1.1:41234 -> 10.0.1.2:80 http-request DROPPED ingress "
        "by shop/api ingress[0], shop/api ingress[1] (HTTP/1.1 POST http://shop/products 403, 0.3 ms)"
    )


def test_a_request_travels_encrypted_if_its_connection_does_and_each_is_asked_for_once() -> None:
    asked: list[tuple[object, ...]] = []

    def tunnelled(*connection: object) -> bool:
        asked.append(connection)
        return connection[2] == ("10.0.1.1", 41234)

    other = replace(REFUSED, source_port=5)
    flows = name_requests([REFUSED, other, REFUSED], replace(JUDGED, tunnelled=tunnelled))
    assert [flow.encrypted for flow in flows.records()] == [True, False, True]
    ends = [(0, Direction.INGRESS, ("10.0.1.1", port), ("10.0.1.2", 80)) for port in (5, 41234)]
    assert sorted(asked, key=str) == sorted(ends, key=str)
    assert not any(flow.encrypted for flow in name_requests([REFUSED], JUDGED).records())


def test_a_request_beyond_a_limit_is_blamed_on_the_rule_that_limits_it() -> None:
    beyond = replace(PASSED, drop_reason=RATE_LIMITED, exchange=replace(PASSED.exchange, code=429))
    (flow,) = name_requests([beyond], JUDGED).records()
    assert (flow.verdict, flow.policies) == (FlowVerdict.DROPPED, RULES[1:])
    assert flow_json(flow)["drop_reason_desc"] == "DROP_RATE_LIMITED"
    assert "http-request DROPPED ingress by shop/api ingress[1] (HTTP/1.1 GET" in flow_text(flow)


def test_a_request_that_passed_is_credited_to_its_rule_alone() -> None:
    (flow,) = name_requests([PASSED], JUDGED).records()
    assert (flow.verdict, flow.policies) == (FlowVerdict.FORWARDED, RULES[1:])
    found = json.loads(json.dumps(flow_json(flow)))
    assert found["Type"] == "L7"
    assert found["l7"]["http"] == {
        "code": 200, "method": "GET", "url": "http://shop/products", "protocol": "HTTP/1.1",
    }  # fmt: skip
    assert found["ingress_allowed_by"][0]["rule"] == "ingress[1]"
    assert found["commit"] == "c0ffee"


def connection(*, name: str | None = None, closed: bool = False) -> pb.TcpEntry:
    """The entry of a connection to port 20000 of the proxy."""
    made = pb.TcpEntry()
    common = made.common_properties
    common.custom_tags["port"] = b"20000"
    if closed:
        common.custom_tags["closed"] = b"1"
    if name is not None:
        common.tls_properties.tls_sni_hostname = name.encode()
    return made


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (connection(name="a.b"), "TLS for a.b"),
        (connection(), "TLS for no name"),
        (connection(closed=True, name="a.b"), "TLS for a.b"),
        (connection(closed=True), "TCP for no name"),
    ],
)
def test_a_refused_connection_is_blamed_on_every_rule_of_its_listener(
    told: pb.TcpEntry, words: str
) -> None:
    refused = refused_connection(told, Direction.INGRESS)
    (flow,) = name_requests([refused], JUDGED).records()
    assert (flow.verdict, flow.policies) == (FlowVerdict.DROPPED, RULES)
    by = "connection DROPPED ingress by shop/api ingress[0], shop/api ingress[1]"
    assert flow_text(flow).endswith(f"{by} ({words})")
    assert flow_json(flow)["l7"]["server_name"] == (
        told.common_properties.tls_properties.tls_sni_hostname.decode()
    )
    assert answers_of([refused]) == AnswerCounts(requests=1, refused=1, failed=0)


def test_what_goes_beyond_a_limit_counts_as_refused_and_a_servers_own_429_does_not() -> None:
    own = replace(PASSED, exchange=replace(PASSED.exchange, code=429))
    answers = answers_of([own, replace(own, drop_reason=RATE_LIMITED)])
    assert answers == AnswerCounts(requests=2, refused=1, failed=0)


def test_rules_of_a_set_that_is_gone_are_not_guessed() -> None:
    (flow,) = name_requests([replace(REFUSED, rule_set="cd" * 32)], JUDGED).records()
    assert (flow.verdict, flow.policies) == (FlowVerdict.DROPPED, ())


def test_a_shadows_other_opinion_makes_an_audit_of_the_request() -> None:
    ruling = ShadowRuling(shadow=Shadow.CANDIDATE, cause=Cause.WOULD_DENY, rules=RULES[:1])
    (flow,) = name_requests([PASSED], JUDGED, [ruling]).records()
    assert (flow.verdict, flow.policies) == (FlowVerdict.AUDIT, RULES[:1])
    assert "http-request AUDIT ingress: the candidate would deny it by shop/api" in flow_text(flow)


def test_requests_survive_the_wire_and_a_selection_beside_other_flows() -> None:
    flows = name_requests([REFUSED, PASSED], JUDGED)
    sent = flows_of(flows_message(flows.select([False, True])).flows)
    assert list(sent.records()) == list(flows.records())[1:]
    packets = sample_batch(2).columns()
    assert [flow.http for flow in flows_of(flows_message(packets).flows).records()] == [None, None]


def test_each_request_is_counted_once_and_only_those_that_passed_have_a_latency() -> None:
    counts = RequestCounts()
    counts.add([REFUSED, PASSED, replace(PASSED, exchange=replace(PASSED.exchange, code=0))])
    assert counts.requests == {
        Kind("ingress", "DROPPED", "4xx", "HTTP/1.1", "POLICY_DENIED"): 1,
        Kind("ingress", "FORWARDED", "2xx", "HTTP/1.1"): 1,
        Kind("ingress", "FORWARDED", "none", "HTTP/1.1"): 1,
    }
    assert sum(counts.buckets[Direction.INGRESS]) == 2
    assert counts.buckets[Direction.INGRESS][BUCKET_SECONDS.index(0.0005)] == 2
    assert counts.seconds[Direction.INGRESS] == pytest.approx(0.00068)


@pytest.mark.parametrize(("looks", "lost"), [
    ([(10, 10)], 0),
    ([(10, 7)], 3),
    ([(10, 12)], 0),          # more came in than had been written at the look
    ([(10, 7), (20, 19)], 3),  # the rest is on its way, what was lost stays lost
    ([(10, 7), (20, 17)], 3),
    ([(10, 7), (20, 12)], 8),
    ([(10, 7), (2, 9), (5, 12)], 3),  # Envoy was started anew
    ([(10, 7), (2, 9), (5, 10)], 5),
])  # fmt: skip
def test_what_envoy_wrote_and_nobody_took_is_lost(looks: list[tuple[int, int]], lost: int) -> None:
    found = beginning(0, 0)
    for written, received in looks:
        found = looked(found, written=written, received=received)
    assert found.lost == lost


def test_an_earlier_agents_losses_are_not_this_ones() -> None:
    assert looked(beginning(100, 0), written=110, received=10).lost == 0


def test_requests_are_metrics_and_a_line_of_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    counts = RequestCounts()
    counts.add([REFUSED, PASSED, PASSED])
    status = pb_agent.StatusResponse(requests=request_status_message(counts, lost=4))
    samples = {
        (sample.name, sample.labels.get("verdict") or sample.labels.get("le")): sample.value
        for metric in agent_metrics(status)
        for sample in metric.samples
        if sample.labels.get("direction") != "egress"
    }
    assert samples["tidegate_http_requests_total", "FORWARDED"] == 2
    assert samples["tidegate_http_requests_total", "DROPPED"] == 1
    assert samples["tidegate_http_request_duration_seconds_bucket", "+Inf"] == 2
    assert samples["tidegate_http_requests_untold_total", None] == 4
    print_status(status)
    assert "2 forwarded, 1 dropped by the proxy, 4 it could not tell of" in capsys.readouterr().out
