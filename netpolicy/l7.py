"""Requests that flows carry, and whether the rules of a port let them pass.

In:   a request; the rules that match its flow by peer and port
Out:  does any of them let the request pass
Pure. The reference for every proxy.

Holds always:
1. A list of rules without entries lets every request of its protocol pass, as in Cilium.
2. A request of another protocol than the rules' never passes.
3. What cannot be known here, the value of a secret, does not match.
4. An HTTP request is judged in the form that a proxy passes it on in: docs/http-policy.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from netpolicy.dns_names import name_matches
from netpolicy.http_path import normal_target
from netpolicy.regex import compile_expression
from netpolicy.rules import HeaderMatch, HttpRule, KafkaRule, L7Rules, NamePattern

TUNNEL_METHOD: Final = "CONNECT"
"""Asks for a tunnel, and what goes through it nobody could judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """An HTTP request as its client sends it: `path` with its query, `headers` as (name, value) pairs."""

    method: str
    path: str
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsQuery:
    """A question for a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRequest:
    """A Kafka request: the number of its API, and the topics it touches."""

    api_key: int
    api_version: int = 0
    client_id: str = ""
    topics: tuple[str, ...] = ()


Request = HttpRequest | DnsQuery | KafkaRequest


def request_passes(rules: Iterable[L7Rules], request: Request) -> bool:
    """True if the rules, taken together, let the request pass."""
    given = tuple(rules)
    match request:
        case HttpRequest():
            judged = as_judged(request)
            return judged is not None and any(_lists_http(one, judged) for one in given)
        case DnsQuery():
            return any(_lists_name(one, request) for one in given)
        case KafkaRequest():
            return _kafka_passes([one.kafka for one in given if one.kafka is not None], request)


def as_judged(request: HttpRequest) -> HttpRequest | None:
    """The request as its server gets it; None for one that no rule lets pass."""
    path = normal_target(request.path)
    if path is None or request.method == TUNNEL_METHOD:
        return None
    return replace(request, path=path)


def server_name_passes(wanted: Iterable[NamePattern], server_name: str) -> bool:
    """True if a TLS connection that asks for this name is meant."""
    return any(name_matches(one, server_name) for one in wanted)


def http_matches(rule: HttpRule, request: HttpRequest) -> bool:
    """True if the request, as it is judged, has the form of the rule."""
    return (
        _expression_matches(rule.method, request.method)
        and _expression_matches(rule.path, request.path)
        and _expression_matches(rule.host, request.host)
        and all(_has_header(request, name, value) for name, value in rule.headers)
        and all(_header_passes(wanted, request) for wanted in rule.header_matches)
    )


def kafka_matches(rule: KafkaRule, request: KafkaRequest) -> bool:
    """True if the request has the form of the rule, but for its topics."""
    return (
        (not rule.api_keys or request.api_key in rule.api_keys)
        and rule.api_version in (None, request.api_version)
        and rule.client_id in ("", request.client_id)
    )


def _lists_http(rules: L7Rules, request: HttpRequest) -> bool:
    if rules.http is None:
        return False
    return not rules.http or any(http_matches(rule, request) for rule in rules.http)


def _lists_name(rules: L7Rules, query: DnsQuery) -> bool:
    if rules.dns is None:
        return False
    return not rules.dns or any(name_matches(wanted, query.name) for wanted in rules.dns)


def _kafka_passes(lists: list[tuple[KafkaRule, ...]], request: KafkaRequest) -> bool:
    """Every topic must be allowed by some rule; a request without topics asks for none."""
    if any(not rules for rules in lists):
        return True
    matching = [rule for rules in lists for rule in rules if kafka_matches(rule, request)]
    topics = {rule.topic for rule in matching}
    return bool(matching) and ("" in topics or topics >= set(request.topics))


def _expression_matches(expression: str, text: str) -> bool:
    return not expression or compile_expression(expression).matches(text)


def _has_header(request: HttpRequest, name: str, value: str) -> bool:
    """Several headers of one name are one header, joined by commas (RFC 9110 section 5.2)."""
    given = [content for other, content in request.headers if other.lower() == name.lower()]
    return bool(given) and value in ("", ",".join(given))


def _header_passes(wanted: HeaderMatch, request: HttpRequest) -> bool:
    if wanted.mismatch is not None:
        return True  # The proxy mends or logs it, and lets it pass.
    return wanted.secret is None and _has_header(request, wanted.name, wanted.value)
