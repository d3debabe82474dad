"""Which requests rules let pass: HTTP, DNS, Kafka, and the names TLS asks for."""

from __future__ import annotations

import pytest

from netpolicy.dns_names import is_name, is_pattern, is_server_name, name_matches
from netpolicy.l7 import DnsQuery, HttpRequest, KafkaRequest, request_passes
from netpolicy.rules import (
    HeaderMatch,
    HeaderMismatch,
    HttpRule,
    KafkaRule,
    L7Rules,
    NamePattern,
    SecretRef,
)

GET = HttpRequest(method="GET", path="/a", host="shop", headers=(("X-Team", "red"),))


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "a.b.c", True), ("*.x.com", "a.x.com", True), ("*.x.com", "a.b.x.com", False),
        ("*.x.com", "x.com", False), ("**.x.com", "a.b.x.com", True), ("**.x.com", "a.x.com", True),
        ("**.x.com", "x.com", False), ("*x.com", "x.com", True), ("*x.com", "myx.com", True),
        ("*x.com", "a.x.com", False), ("a*.x.com", "ab.X.com.", True), ("a.**.c", "a.b.c", True),
        ("a.**.c", "a.b.b.c", False), ("x.com", "xacom", False),
    ],
)  # fmt: skip
def test_a_wildcard_stays_within_its_label(pattern, name, matches):
    assert name_matches(NamePattern(pattern=pattern), name) is matches


def test_names_are_compared_without_case_and_trailing_dot():
    assert name_matches(NamePattern(name="api.x.com"), "API.x.com.")
    assert not name_matches(NamePattern(name="api.x.com"), "x.com")


def test_names_and_patterns_have_a_form():
    assert is_name("a_b.x-1.com.")
    assert not any(map(is_name, ("", "a b", "bücher.de", "*.x", "a..b", "a/b", "a" * 256)))
    assert is_pattern("*.x")
    assert not is_pattern("a b")
    assert is_server_name("**.x.com")
    assert not any(map(is_server_name, ("", "a.*.b", "*x.com", "*")))


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        (HttpRule(), True),
        (HttpRule(method="GET", path="/a", host="sh.p"), True),
        (HttpRule(method="GE"), False),
        (HttpRule(path="/"), False),
        (HttpRule(headers=(("x-team", "red"),)), True),
        (HttpRule(headers=(("x-team", ""),)), True),
        (HttpRule(headers=(("x-team", "blue"),)), False),
        (HttpRule(header_matches=(HeaderMatch(name="x-team", value="red"),)), True),
        (HttpRule(header_matches=(HeaderMatch(name="x-team", value="blue"),)), False),
        (
            HttpRule(
                header_matches=(
                    HeaderMatch(name="x-team", value="blue", mismatch=HeaderMismatch.LOG),
                )
            ),
            True,
        ),
        (
            HttpRule(header_matches=(HeaderMatch(name="x-team", secret=SecretRef(name="s")),)),
            False,
        ),
    ],
)
def test_an_http_rule_matches_every_part_it_names(rule, passes):
    assert request_passes([L7Rules(http=(rule,))], GET) is passes


def test_the_query_is_part_of_the_path():
    request = HttpRequest(method="GET", path="/a?x=1")
    assert not request_passes([L7Rules(http=(HttpRule(path="/a"),))], request)


def test_an_empty_list_of_rules_lets_every_request_pass_and_no_other_protocol():
    assert request_passes([L7Rules(http=())], GET)
    assert not request_passes([L7Rules(http=())], DnsQuery(name="a"))
    assert not request_passes([L7Rules(dns=())], GET)


def test_every_topic_of_a_kafka_request_must_be_allowed():
    orders = KafkaRule(api_keys=(0, 3, 18), topic="orders")
    both = [L7Rules(kafka=(orders,)), L7Rules(kafka=(KafkaRule(api_keys=(0,), topic="bills"),))]
    produce = KafkaRequest(api_key=0, topics=("orders", "bills"))
    assert request_passes(both, produce)
    assert not request_passes(both[:1], produce)
    assert request_passes(both[:1], KafkaRequest(api_key=18))
    assert not request_passes(both[:1], KafkaRequest(api_key=1, topics=("orders",)))
    assert not request_passes(
        [L7Rules(kafka=(KafkaRule(api_version=2, client_id="a"),))],
        KafkaRequest(api_key=0, api_version=1, client_id="a"),
    )
