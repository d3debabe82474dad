"""Say rules as Envoy judges requests: policies of its RBAC filter, and routes that mend requests.

In:   the rules of a filter chain; what the secrets hold
Out:  one RouteConfiguration
Pure. What passes is what `netpolicy.l7.request_passes` lets pass.

Holds always:
1. Nothing passes but what a policy of the RBAC filter lists: no rules refuse everything.
2. A request is mended by the first rule that it matches, and only if no rule lets it pass as it is.
3. A secret that is not there matches no value.

All that may change while connections live is in here: Envoy takes a new route configuration between two
requests of one connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from netpolicy.dns_names import name_expression
from netpolicy.rules import HeaderMatch, HeaderMismatch, HttpRule, NamePattern, SecretRef
from nodeagent.envoy.document import Json, typed
from nodeagent.envoy.tls import Secrets, secret_place
from nodeagent.l7.access_log import RBAC_FILTER, headers_of_route, rule_name, rule_set_name
from nodeagent.l7.rule_sets import ProxyRule

METHOD: Final = ":method"
PATH: Final = ":path"
HOST: Final = ":authority"
FORWARDED_PROTO: Final = "x-forwarded-proto"
KEPT_PROTO: Final = "x-tidegate-kept-proto"
"""Holds the client's own x-forwarded-proto while Envoy sets one of its own accord."""

_ANY: Final[Json] = {"any": True}
_ADD_LINE: Final = "APPEND_IF_EXISTS_OR_ADD"
_SET: Final = "OVERWRITE_IF_EXISTS_OR_ADD"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRule:
    """A rule, and its place in its rule set: what the access log calls it by."""

    place: int
    rule: ProxyRule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Requests that match every one of `matchers`, and what is done to their headers."""

    matchers: tuple[Json, ...] = ()
    added: tuple[tuple[str, str], ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()


def route_configuration(
    name: str, rules: Iterable[PlacedRule], *, digest: str, cluster: str, secrets: Secrets
) -> Json:
    """The rules of one filter chain, which are of the rule set with this digest."""
    placed = tuple(rules)
    looked_at = named_headers(one.rule for one in placed)
    routes = [_route(form, digest, cluster) for form in _forms(_listed(placed), secrets)]
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": routes,
        "request_headers_to_remove": [KEPT_PROTO],
        "typed_per_filter_config": {
            RBAC_FILTER: _judgement(placed, secrets),
            **(headers_of_route(looked_at) if looked_at else {}),
        },
    }
    return typed("config.route.v3.RouteConfiguration", name=name, virtual_hosts=[host])


def named_headers(rules: Iterable[ProxyRule]) -> frozenset[str]:
    """The headers that rules look at, in lower case."""
    listed = [http for rule in rules if rule.l7 is not None for http in rule.l7.http or ()]
    names = {name for rule in listed for name, _ in rule.headers}
    names |= {match.name for rule in listed for match in rule.header_matches}
    return frozenset(name.lower() for name in names)


def secrets_of(rules: Iterable[ProxyRule]) -> frozenset[SecretRef]:
    """The secrets whose values rules compare headers with."""
    listed = [http for rule in rules if rule.l7 is not None for http in rule.l7.http or ()]
    return frozenset(
        match.secret for rule in listed for match in rule.header_matches if match.secret is not None
    )


def header_expression(name: str, expression: str) -> Json:
    """The whole of a header (or of a pseudo-header) has the form of an expression."""
    return {"name": name, "string_match": {"safe_regex": {"regex": expression}}}


def server_name_permission(names: Iterable[NamePattern]) -> Json:
    """A TLS connection asks for one of the names."""
    matchers = [{"safe_regex": {"regex": name_expression(name)}} for name in names]
    asked = [{"requested_server_name": matcher} for matcher in matchers]
    return asked[0] if len(asked) == 1 else {"or_rules": {"rules": asked}}


def _judgement(placed: Iterable[PlacedRule], secrets: Secrets) -> Json:
    policies = {
        name: {"permissions": [permission], "principals": [_ANY]}
        for one in placed
        for name, permission in _permissions(one, secrets)
    }
    rules = {"action": "ALLOW", "policies": policies}
    return typed("extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"rules": rules})


def _permissions(placed: PlacedRule, secrets: Secrets) -> Iterator[tuple[str, Json]]:
    """What one rule lets pass, each part under a name that starts with the rule's."""
    asked, name = placed.rule.l7, rule_name(placed.place)
    names = placed.rule.server_names
    for_names = [] if names is None else [server_name_permission(names)]
    if asked is None or asked.http == ():
        yield name, _all(for_names)
        return
    for index, rule in enumerate(asked.http or ()):
        matchers = _matchers(rule, secrets)
        if matchers is not None:
            yield (
                f"{name}.{index}",
                _all([*for_names, *({"header": matcher} for matcher in matchers)]),
            )


def _all(permissions: list[Json]) -> Json:
    return {"and_rules": {"rules": permissions}} if permissions else _ANY


def _matchers(rule: HttpRule, secrets: Secrets) -> tuple[Json, ...] | None:
    """What a request must have to match a rule; None if nothing can."""
    asked = ((METHOD, rule.method), (PATH, rule.path), (HOST, rule.host))
    found = [header_expression(name, expression) for name, expression in asked if expression]
    found += [_header(name, value) for name, value in rule.headers]
    for match in rule.header_matches:
        value = _wanted_value(match, secrets)
        if match.mismatch is None and value is None:
            return None
        if match.mismatch is None:
            found.append(_header(match.name, value or ""))
    return tuple(found)


def _wanted_value(match: HeaderMatch, secrets: Secrets) -> str | None:
    """The value a header must have, "" for any; None if it is a secret that is not there."""
    if match.secret is None:
        return match.value
    held = secrets.get(secret_place(match.secret), {})
    only = next(iter(held.values())) if len(held) == 1 else None
    found = held.get(match.secret.key) if match.secret.key else only
    return found or match.value or None


def _header(name: str, value: str) -> Json:
    """Several headers of one name are compared as one, joined by commas."""
    if not value:
        return {"name": name, "present_match": True}
    return {"name": name, "string_match": {"exact": value}}


def _listed(placed: Iterable[PlacedRule]) -> tuple[HttpRule, ...]:
    """Every form of request; a rule that asks for none of its own is one without conditions."""
    found: list[HttpRule] = []
    for one in placed:
        asked = one.rule.l7
        found += (HttpRule(),) if asked is None or asked.http == () else asked.http or ()
    return tuple(found)


def _forms(rules: tuple[HttpRule, ...], secrets: Secrets) -> tuple[_Form, ...]:
    """Every request finds a form; those that pass as they are come first."""
    mending = [rule for rule in rules if _mends(rule)]
    untouched = [rule for rule in rules if not _mends(rule)] if mending else []
    found = [_Form(matchers=matchers) for matchers in _known(untouched, secrets)]
    found += [form for rule in mending for form in _mending_forms(rule, secrets)]
    return (*found, _Form())


def _known(rules: Iterable[HttpRule], secrets: Secrets) -> Iterator[tuple[Json, ...]]:
    for rule in rules:
        matchers = _matchers(rule, secrets)
        if matchers is not None:
            yield matchers


def _mends(rule: HttpRule) -> bool:
    return any(match.mismatch not in (None, HeaderMismatch.LOG) for match in rule.header_matches)


def _mending_forms(rule: HttpRule, secrets: Secrets) -> Iterator[_Form]:
    """A form for each combination of headers as wanted and not, the most of them as wanted first.

    So a form need not say which headers are *not* as wanted: an earlier one has taken those that are.
    """
    matchers = _matchers(rule, secrets)
    if matchers is None:
        return
    asked = [
        (match, _wanted_value(match, secrets) or "")
        for match in rule.header_matches
        if match.mismatch not in (None, HeaderMismatch.LOG)
    ]
    replaced = [one for one in asked if one[0].mismatch is HeaderMismatch.REPLACE]
    others = [one for one in asked if one[0].mismatch is not HeaderMismatch.REPLACE]
    for as_wanted in product((True, False), repeat=len(others)):
        given = [one for one, wanted in zip(others, as_wanted, strict=True) if wanted]
        lacking = [one for one, wanted in zip(others, as_wanted, strict=True) if not wanted]
        yield _Form(
            matchers=(*matchers, *(_header(match.name, value) for match, value in given)),
            added=_named(lacking, HeaderMismatch.ADD),
            removed=tuple(name for name, _ in _named(lacking, HeaderMismatch.DELETE)),
            replaced=_named(replaced, HeaderMismatch.REPLACE),
        )


def _named(
    asked: Iterable[tuple[HeaderMatch, str]], action: HeaderMismatch
) -> tuple[tuple[str, str], ...]:
    return tuple((match.name, value) for match, value in asked if match.mismatch is action)


def _route(form: _Form, digest: str, cluster: str) -> Json:
    return {
        "name": rule_set_name(digest),
        "match": {"prefix": "/", "headers": list(form.matchers)},
        "route": {"cluster": cluster, "timeout": "0s"},
        "request_headers_to_remove": [FORWARDED_PROTO, *form.removed],
        "request_headers_to_add": [
            _addition(FORWARDED_PROTO, f"%REQ({KEPT_PROTO})%", _SET),
            *(_addition(name, _literal(value), _ADD_LINE) for name, value in form.added),
            *(_addition(name, _literal(value), _SET) for name, value in form.replaced),
        ],
    }


def _addition(name: str, value: str, action: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _literal(value: str) -> str:
    """A percent sign would start one of Envoy's own substitutions."""
    return value.replace("%", "%%")
