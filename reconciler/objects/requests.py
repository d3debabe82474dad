"""Read what a rule asks of the content of traffic: requests, server names, TLS, a listener.

In:   parts of a document whose form was checked
Out:  the values of `netpolicy.rules`; None where nothing is asked
Pure.

Holds always:
1. What is written in an older or shorter spelling means what its modern form means.
2. An empty list of rules asks for nothing, as in Cilium: it is a plain allow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from netpolicy.dns_names import canonical_name
from netpolicy.rules import (
    HeaderMatch,
    HeaderMismatch,
    HttpRule,
    KafkaRule,
    L7Rules,
    NamePattern,
    RateLimit,
    SecretRef,
    TlsContext,
)
from reconciler.objects.kafka_text import ROLES, api_key
from reconciler.objects.rate_text import span_seconds

GRPC_METHOD: Final = "POST"


def read_names(value: Mapping[str, Any]) -> NamePattern:
    """matchName or matchPattern."""
    return NamePattern(
        name=canonical_name(value.get("matchName", "")),
        pattern=canonical_name(value.get("matchPattern", "")),
    )


def read_requests(rules: Mapping[str, Any]) -> L7Rules | None:
    """What requests `rules` lets pass."""
    http = [_http(rule) for rule in rules.get("http", [])]
    http += [_grpc(rule) for rule in rules.get("grpc", [])]
    if http:
        return L7Rules(http=tuple(http))
    if rules.get("dns"):
        return L7Rules(dns=tuple(map(read_names, rules["dns"])))
    if rules.get("kafka"):
        return L7Rules(kafka=tuple(map(_kafka, rules["kafka"])))
    if "l7proto" in rules:
        pairs = tuple(tuple(sorted(rule.items())) for rule in rules.get("l7", []))
        return L7Rules(parser=rules["l7proto"], parser_rules=pairs)
    return None


def read_server_names(names: list[str]) -> tuple[NamePattern, ...] | None:
    """The names TLS may ask for."""
    if not names:
        return None
    return tuple(
        NamePattern(pattern=name) if "*" in name else NamePattern(name=name)
        for name in map(canonical_name, names)
    )


def read_tls(value: Mapping[str, Any] | None) -> TlsContext | None:
    """terminatingTLS or originatingTLS."""
    if value is None:
        return None
    return TlsContext(
        secret=_secret(value["secret"]),
        certificate=value.get("certificate", ""),
        private_key=value.get("privateKey", ""),
        trusted_ca=value.get("trustedCA", ""),
    )


def read_listener(value: Mapping[str, Any] | None) -> str:
    """The listener, named as `kind/configuration/listener`."""
    if value is None:
        return ""
    config = value["envoyConfig"]
    kind = config.get("kind", "CiliumEnvoyConfig")
    return f"{kind}/{config['name']}/{value['name']}"


def _http(rule: Mapping[str, Any]) -> HttpRule:
    return HttpRule(
        method=rule.get("method", ""),
        path=rule.get("path", ""),
        host=rule.get("host", ""),
        headers=tuple(sorted(map(_header, rule.get("headers", [])))),
        header_matches=tuple(map(_header_match, rule.get("headerMatches", []))),
        rate_limit=_rate_limit(rule["rateLimit"]) if "rateLimit" in rule else None,
    )


def _rate_limit(value: Mapping[str, Any]) -> RateLimit:
    return RateLimit(
        requests=value["requests"],
        seconds=span_seconds(value["per"]) or 0,
        burst=value.get("burst", value["requests"]),
    )


def _header(value: str | Mapping[str, str]) -> tuple[str, str]:
    if isinstance(value, str):
        name, _, text = value.partition(" ")
        return name.removesuffix(":"), text
    ((name, text),) = value.items()
    return name, text


def _header_match(value: Mapping[str, Any]) -> HeaderMatch:
    return HeaderMatch(
        name=value["name"],
        value=value.get("value", ""),
        secret=_secret(value["secret"]) if "secret" in value else None,
        mismatch=HeaderMismatch(value["mismatch"]) if "mismatch" in value else None,
    )


def _secret(value: Mapping[str, str]) -> SecretRef:
    return SecretRef(
        namespace=value.get("namespace", ""), name=value["name"], key=value.get("key", "")
    )


def _grpc(rule: Mapping[str, Any]) -> HttpRule:
    """gRPC calls a method by POST to /package.Service/Method."""
    service = re.escape(rule["service"])
    method = rule.get("method", "[^/]+")
    return HttpRule(
        method=GRPC_METHOD,
        path=f"/{service}/{method}",
        rate_limit=_rate_limit(rule["rateLimit"]) if "rateLimit" in rule else None,
    )


def _kafka(rule: Mapping[str, Any]) -> KafkaRule:
    key = api_key(rule.get("apiKey", ""))
    single = () if key is None else (key,)
    return KafkaRule(
        api_keys=ROLES[rule["role"]] if rule.get("role") else single,
        api_version=int(rule["apiVersion"]) if rule.get("apiVersion") else None,
        client_id=rule.get("clientID", ""),
        topic=rule.get("topic", ""),
    )
