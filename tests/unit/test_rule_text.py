"""Rules in words: nothing that a rule asks for is left unsaid."""

from __future__ import annotations

from dataclasses import fields

import pytest

from netpolicy.labels import selector
from netpolicy.rules import (
    Action,
    AuthMode,
    Direction,
    HeaderMatch,
    HeaderMismatch,
    HttpRule,
    KafkaRule,
    L7Rules,
    NamePattern,
    Peers,
    Ports,
    Protocol,
    RateLimit,
    Rule,
    SecretRef,
    ServicePeer,
    TlsContext,
)
from reconciler.compile.rule_text import rule_text

PLAIN = {"direction": Direction.EGRESS, "action": Action.ALLOW, "origin": "egress[0]"}
NAMES = (NamePattern(name="a.example"), NamePattern(pattern="*.b.example"))
TLS = TlsContext(secret=SecretRef(name="cert"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "allow to anyone on any port"),
        ({"peers": Peers(fqdns=NAMES[:1])}, "to DNS name a.example on"),
        ({"peers": Peers(services=(ServicePeer(namespace="n", name="s"),))}, "to service n/s on"),
        (
            {"peers": Peers(services=(ServicePeer(selector=selector([])),))},
            "to services (anyone) on",
        ),
        ({"ports": (Ports(protocol=Protocol.TCP, name="http"),)}, 'on tcp/"http"'),
        ({"l7": L7Rules(http=(HttpRule(method="GET", path="/x"),))}, "for HTTP GET /x"),
        ({"l7": L7Rules(http=(HttpRule(host="h"),))}, "for HTTP any method any path at h"),
        (
            {"l7": L7Rules(http=(HttpRule(headers=(("A", "1"), ("B", ""))),))},
            "with header A: 1 with header B",
        ),
        (
            {
                "l7": L7Rules(
                    http=(
                        HttpRule(
                            header_matches=(
                                HeaderMatch(
                                    name="A",
                                    secret=SecretRef(name="s"),
                                    mismatch=HeaderMismatch.ADD,
                                ),
                            )
                        ),
                    )
                )
            },
            "with header A: (secret s) (else add)",
        ),
        (
            {"l7": L7Rules(http=(HttpRule(rate_limit=RateLimit(requests=9, seconds=1, burst=9)),))},
            "any path up to 9 a second",
        ),
        (
            {
                "l7": L7Rules(
                    http=(HttpRule(rate_limit=RateLimit(requests=9, seconds=60, burst=20)),)
                )
            },
            "any path up to 9 in 60 seconds (20 at once)",
        ),
        ({"l7": L7Rules(http=())}, "for HTTP of any kind"),
        ({"l7": L7Rules(dns=NAMES)}, "for DNS names a.example, *.b.example"),
        (
            {"l7": L7Rules(kafka=(KafkaRule(api_keys=(0,), api_version=1, topic="t"),))},
            "for Kafka API 0 version 1 on topic t",
        ),
        ({"l7": L7Rules(kafka=(KafkaRule(client_id="c"),))}, "for Kafka from client c"),
        ({"l7": L7Rules(parser="p", parser_rules=((("k", "v"),),))}, "for p k=v"),
        ({"server_names": NAMES[1:]}, "for TLS to *.b.example"),
        ({"terminating_tls": TLS}, "with TLS ended and begun anew"),
        ({"originating_tls": TLS}, "with TLS ended and begun anew"),
        ({"listener": "l"}, "through the listener l"),
        ({"authentication": AuthMode.REQUIRED}, "with authentication required"),
    ],
)
def test_what_a_rule_asks_for_is_said(asked: dict[str, object], said: str) -> None:
    assert said in rule_text(Rule(**PLAIN, **asked))  # type: ignore[arg-type]


def test_every_field_of_a_rule_is_tried_above() -> None:
    tried = {"peers", "ports", "l7", "server_names", "terminating_tls", "originating_tls"}
    assert {field.name for field in fields(Rule)} == {*PLAIN, *tried, "listener", "authentication"}
