"""Routes that tell requests apart which are not treated alike: mended, counted, or passed on as they are.

In:   forms of request; what the secrets hold
Out:  routes of Envoy's API, in order
Pure. Routes refuse nothing: every request finds one.

Holds always:
1. A request is counted only if every form that it has is limited, and then by the first of them.
2. Among equally limited forms it is mended only if none lets it pass as it is, by the first that mends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from netpolicy.rules import HeaderMatch, HeaderMismatch, NamePattern
from nodeagent.envoy.document import Json
from nodeagent.envoy.forms import RequestForm
from nodeagent.envoy.matchers import header, matchers_of, names_matcher, wanted_value
from nodeagent.envoy.rate_limits import counted_as
from nodeagent.envoy.tls import Secrets
from nodeagent.l7.access_log import rule_set_name

FORWARDED_PROTO: Final = "x-forwarded-proto"
KEPT_PROTO: Final = "x-tidegate-kept-proto"
"""Holds the client's own x-forwarded-proto while Envoy sets one of its own accord."""
SERVER_NAME_STATE: Final = "tidegate.server_name"
"""What routes call the name that a connection's TLS asked for."""

_ADD_LINE: Final = "APPEND_IF_EXISTS_OR_ADD"
_SET: Final = "OVERWRITE_IF_EXISTS_OR_ADD"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """Requests that match every one of `matchers`, and what is done to their headers."""

    matchers: tuple[Json, ...] = ()
    server_names: tuple[NamePattern, ...] | None = None
    counted: Json = field(default_factory=dict)
    added: tuple[tuple[str, str], ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()


def routes_of(
    forms: Iterable[RequestForm], *, digest: str, cluster: str, secrets: Secrets
) -> list[Json]:
    """The routes of a filter chain whose rules are of the rule set with this digest."""
    return [_route(way, digest, cluster) for way in _ways(tuple(forms), secrets)]


def _ways(forms: tuple[RequestForm, ...], secrets: Secrets) -> Iterator[_Way]:
    if any(_mends(form) or _is_limited(form) for form in forms):
        for form in sorted(forms, key=lambda one: (_is_limited(one), _mends(one))):
            yield from _ways_of(form, secrets)
    yield _Way()


def _is_limited(form: RequestForm) -> bool:
    return form.http.rate_limit is not None


def _mends(form: RequestForm) -> bool:
    return any(
        match.mismatch not in (None, HeaderMismatch.LOG) for match in form.http.header_matches
    )


def _ways_of(form: RequestForm, secrets: Secrets) -> Iterator[_Way]:
    """A way for each combination of headers as wanted and not, the most of them as wanted first.

    So a way need not say which headers are *not* as wanted: an earlier one has taken those that are.
    """
    matchers = matchers_of(form.http, secrets)
    if matchers is None:
        return
    asked = [
        (match, wanted_value(match, secrets) or "")
        for match in form.http.header_matches
        if match.mismatch not in (None, HeaderMismatch.LOG)
    ]
    replaced = [one for one in asked if one[0].mismatch is HeaderMismatch.REPLACE]
    others = [one for one in asked if one[0].mismatch is not HeaderMismatch.REPLACE]
    for as_wanted in product((True, False), repeat=len(others)):
        given = [one for one, wanted in zip(others, as_wanted, strict=True) if wanted]
        lacking = [one for one, wanted in zip(others, as_wanted, strict=True) if not wanted]
        yield _Way(
            matchers=(*matchers, *(header(match.name, value) for match, value in given)),
            server_names=form.server_names,
            counted=counted_as(form),
            added=_named(lacking, HeaderMismatch.ADD),
            removed=tuple(name for name, _ in _named(lacking, HeaderMismatch.DELETE)),
            replaced=_named(replaced, HeaderMismatch.REPLACE),
        )


def _named(
    asked: Iterable[tuple[HeaderMatch, str]], action: HeaderMismatch
) -> tuple[tuple[str, str], ...]:
    return tuple((match.name, value) for match, value in asked if match.mismatch is action)


def _route(way: _Way, digest: str, cluster: str) -> Json:
    return {
        "name": rule_set_name(digest),
        "match": {"prefix": "/", "headers": list(way.matchers), **_for_names(way.server_names)},
        "route": {"cluster": cluster, "timeout": "0s", **way.counted},
        "request_headers_to_remove": [FORWARDED_PROTO, *way.removed],
        "request_headers_to_add": [
            _addition(FORWARDED_PROTO, f"%REQ({KEPT_PROTO})%", _SET),
            *(_addition(name, _literal(value), _ADD_LINE) for name, value in way.added),
            *(_addition(name, _literal(value), _SET) for name, value in way.replaced),
        ],
    }


def _for_names(names: tuple[NamePattern, ...] | None) -> Json:
    if names is None:
        return {}
    return {"filter_state": [{"key": SERVER_NAME_STATE, "string_match": names_matcher(names)}]}


def _addition(name: str, value: str, action: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": action}


def _literal(value: str) -> str:
    """A percent sign would start one of Envoy's own substitutions."""
    return value.replace("%", "%%")
