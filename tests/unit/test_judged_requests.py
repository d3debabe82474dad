"""Entries of the proxy's log, the flows they become, and how they are shown and counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from netpolicy.drop_reasons import POLICY_DENIED, RATE_LIMITED, TLS_FAILED
from netpolicy.evaluate import Outcome
from netpolicy.evidence import AnswerCounts, Cause, Shadow
from netpolicy.flow import FlowVerdict, flow_json, flow_text
from netpolicy.http_flow import MAX_PATH
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb_agent
from nodeagent.cli_render import print_status
from nodeagent.flows.naming_requests import Judged, Places, ShadowRuling, name_requests
from nodeagent.l7.access_log import REFUSED as REFUSED_BY_RULES
from nodeagent.l7.access_log import Told, route_name, rule_name, teller
from nodeagent.l7.log_entries import decode_entries
from nodeagent.l7.log_losses import beginning, looked
from nodeagent.l7.request_counts import (
    BUCKET_SECONDS,
    Kind,
    RequestCounts,
    answered,
    answers_of,
)
from nodeagent.l7.requests import JudgedRequest, judged_requests
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
    rule_set=SET,
    method="POST",
    path="/products",
    host="shop",
    code=403,
    latency_ns=340_000,
)
PASSED = REFUSED._replace(drop_reason=0, rule=1, method="GET", code=200)


BY_RULE = route_name(SET, f"{rule_name(1)}.0")


WHERE: dict[str, Any] = {
    "time": "1795238794123000000",
    "source": "10.0.1.1:41234",
    "destination": "[fd00::2]:80",
}


def entry(route: str | None = BY_RULE, **fields: Any) -> bytes:
    """A line of the log about a request, as Envoy writes it."""
    by = teller(Told.REQUEST, Direction.EGRESS, 20_000)
    told = {"by": by, **WHERE, "route": route, "protocol": "HTTP/2", "code": 200, **fields}
    return json.dumps(told).encode() + b"\n"


def read(lines: bytes) -> JudgedRequest:
    """What the only entry says."""
    (found,) = judged_requests(decode_entries(lines))
    return found


@pytest.mark.parametrize(
    ("told", "reason", "rule"),
    [
        (entry(details="via_upstream"), 0, 1),
        (entry(route=route_name(SET, REFUSED_BY_RULES)), POLICY_DENIED, None),
        (entry(details="local_rate_limited"), RATE_LIMITED, 1),
        (entry(details="upgrade_failed"), POLICY_DENIED, None),
        (entry(route=None, details="http1.codec_error"), POLICY_DENIED, None),
    ],
)
def test_what_no_rule_let_through_counts_as_refused(
    told: bytes, reason: int, rule: int | None
) -> None:
    found = read(told)
    assert (found.drop_reason, found.rule) == (reason, rule)
    assert (found.source, found.source_port) == ("10.0.1.1", 41234)
    assert (found.destination, found.destination_port) == ("fd00::2", 80)
    assert found.time_ns == 1_795_238_794_123_000_000


@pytest.mark.parametrize("bad", [
    b"\n",
    b"no JSON\n",
    entry()[:-30] + b"\n",
    entry()[30:],
    entry()[:-30] + entry(),                        # Envoy was killed while it wrote
    b'{"path":"' + entry(),
    entry().replace(b'"by"', b'"of"'),
    entry().replace(b"egress 20000", b"sideways 1"),
    entry(path=7),
    entry(surprise=1),
    b"\xff" + entry(),
])  # fmt: skip
def test_a_line_that_is_no_entry_costs_none_of_its_neighbours(bad: bytes) -> None:
    lines = entry(path="/1") + bad + entry(path="/2")
    assert [one.path for one in judged_requests(decode_entries(lines))] == ["/1", "/2"]


def test_bytes_that_are_no_utf8_are_nothing_that_a_rule_could_name_and_others_stay() -> None:
    told = entry(path="/\xe9\\u00e9\t").replace(rb"\u00e9", "\xe9".encode(), 1)
    told = told.replace(b'"path": "', rb'"path": "\u00ff\u00e9')
    assert read(told).path == "\ufffd\ufffd/\xe9\\u00e9\t"


def test_what_a_client_wrote_is_shown_bounded_and_escaped_and_judged_whole() -> None:
    path = "/\x1b[31m" + "x" * 5000
    found = read(entry(path=path))
    assert found.exchange.path.startswith("/\\x1b[31m")
    assert found.exchange.path.isprintable()
    assert len(found.exchange.path) == MAX_PATH
    assert found.path == path


@pytest.mark.parametrize(("where", "text", "status"), [
    ("grpc_end", "7", 7),
    ("grpc", "0", 0),
    ("grpc", "-1", None),
    ("grpc", "9999", None),
])  # fmt: skip
def test_the_status_of_a_grpc_answer_is_in_its_trailers_or_headers(
    where: str, text: str, status: int | None
) -> None:
    assert read(entry(**{where: text})).grpc_status == status


@pytest.mark.parametrize(("times", "latency"), [
    ({"took": 340_000, "lasted": 0}, 340_000),
    ({"took": None, "lasted": 303}, 303_000_000),
    ({"took": None, "lasted": None}, 0),
])  # fmt: skip
def test_a_request_whose_client_left_before_the_answer_took_as_long_as_it_lasted(
    times: dict[str, int | None], latency: int
) -> None:
    assert read(entry(**times)).latency_ns == latency


def test_a_header_that_is_not_there_is_told_apart_from_one_that_is_empty() -> None:
    told = entry(headers={"x-a": "", "!x-b": "1"})
    assert read(told).headers == {"x-a": "", "x-b": None}


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

    other = REFUSED._replace(source_port=5)
    flows = name_requests([REFUSED, other, REFUSED], replace(JUDGED, tunnelled=tunnelled))
    assert [flow.encrypted for flow in flows.records()] == [True, False, True]
    ends = [(0, Direction.INGRESS, ("10.0.1.1", port), ("10.0.1.2", 80)) for port in (5, 41234)]
    assert sorted(asked, key=str) == sorted(ends, key=str)
    assert not any(flow.encrypted for flow in name_requests([REFUSED], JUDGED).records())


def test_a_request_beyond_a_limit_is_blamed_on_the_rule_that_limits_it() -> None:
    beyond = PASSED._replace(drop_reason=RATE_LIMITED, code=429)
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


def connection(told: Told = Told.NAME, **fields: Any) -> bytes:
    """The line about a connection to port 20000 of the proxy."""
    by = teller(told, Direction.INGRESS, 20_000)
    return json.dumps({"by": by, **WHERE, **fields}).encode() + b"\n"


BROKEN_OFF = {
    "failure": "TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer"
}


@pytest.mark.parametrize(
    ("told", "name", "words", "reason"),
    [
        (connection(name="a.b"), "a.b", "TLS for a.b", POLICY_DENIED),
        (connection(), "", "TLS for no name", POLICY_DENIED),
        (connection(Told.CLOSED, name="a.b"), "a.b", "TLS for a.b", POLICY_DENIED),
        (connection(Told.CLOSED), "", "TCP for no name", POLICY_DENIED),
        (connection(Told.CLOSED, tls="TLSv1.3"), "", "TLS for no name", POLICY_DENIED),
        (connection(Told.CLOSED, **BROKEN_OFF), "", "TLS for no name", TLS_FAILED),
        (connection(Told.CLOSED, **BROKEN_OFF, inspected={"failure_reason": "x"}), "",
         "TCP for no name", POLICY_DENIED),
    ],
)  # fmt: skip
def test_a_refused_connection_is_blamed_on_every_rule_of_its_listener(
    told: bytes, name: str, words: str, reason: int
) -> None:
    refused = read(told)
    assert refused.drop_reason == reason
    (flow,) = name_requests([refused], JUDGED).records()
    assert (flow.verdict, flow.policies) == (FlowVerdict.DROPPED, RULES)
    by = "connection DROPPED ingress by shop/api ingress[0], shop/api ingress[1]"
    assert flow_text(flow).endswith(f"{by} ({words})")
    assert flow_json(flow)["l7"]["server_name"] == name
    assert answers_of(answered([refused])) == AnswerCounts(requests=1, refused=1, failed=0)


def test_what_goes_beyond_a_limit_counts_as_refused_and_a_servers_own_429_does_not() -> None:
    own = PASSED._replace(code=429)
    answers = answers_of(answered([own, own._replace(drop_reason=RATE_LIMITED)]))
    assert answers == AnswerCounts(requests=2, refused=1, failed=0)


def test_rules_of_a_set_that_is_gone_are_not_guessed() -> None:
    (flow,) = name_requests([REFUSED._replace(rule_set="cd" * 32)], JUDGED).records()
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
    counts.add([REFUSED, PASSED, PASSED._replace(code=0)])
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
