"""Routes judge requests: one for each form that passes, then one that refuses whatever is left.

In:   forms of request; what the secrets hold
Out:  routes of Envoy's API, in order
Pure. What finds no route is refused too.

Holds always:
1. A request passes only if it has one of the forms.
2. It is counted only if every form that it has is limited, and then by the first of them.
3. Among equally limited forms it is mended only if none lets it pass as it is, by the first that mends.
4. Its server sees `x-forwarded-proto` as the client sent it, or not at all.

Envoy sets that header before it looks for a route, unless it is there. So a mark is set in its place first;
routes of marked requests take it away again, and know no form that asks for the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from netpolicy.http_path import DOTS_BEFORE_SEMICOLON
from netpolicy.rules import HeaderMatch, HeaderMismatch, NamePattern
from nodeagent.envoy.document import Json
from nodeagent.envoy.forms import RequestForm
from nodeagent.envoy.matchers import (
    PATH,
    header,
    header_expression,
    matchers_of,
    names_matcher,
    wanted_value,
)
from nodeagent.envoy.rate_limits import counted_as
from nodeagent.envoy.tls import Secrets
from nodeagent.l7.access_log import REFUSED, route_name

FORWARDED_PROTO: Final = "x-forwarded-proto"
NO_PROTO: Final = "tidegate-none"
"""The mark on requests whose client sent no `x-forwarded-proto`."""
FORBIDDEN: Final = 403
REFUSAL: Final = "RBAC: access denied"
"""What clients have always been told: Envoy's own words where its RBAC filter refuses."""
SERVER_NAME_STATE: Final = "tidegate.server_name"
"""What routes call the name that a connection's TLS asked for."""

_MARKED: Final[Json] = header(FORWARDED_PROTO, NO_PROTO)
_UNREADABLE: Final[tuple[Json, ...]] = (
    {"name": PATH, "string_match": {"contains": ";"}},
    header_expression(PATH, DOTS_BEFORE_SEMICOLON),
)
"""Servers read such a path in different ways. The first spares most requests the second."""
_ADD_LINE: Final = "APPEND_IF_EXISTS_OR_ADD"
_SET: Final = "OVERWRITE_IF_EXISTS_OR_ADD"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """Requests of a form that match every one of `matchers`, and what is done to their headers."""

    form: str
    matchers: tuple[Json, ...] = ()
    server_names: tuple[NamePattern, ...] | None = None
    counted: Json = field(default_factory=dict)
    added: tuple[tuple[str, str], ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()


def routes_of(
    forms: Iterable[RequestForm], *, digest: str, cluster: str, secrets: Secrets
) -> list[Json]:
    """The routes of a filter chain whose rules are of the rule set with this digest.

    CONNECT, which may have no path, is asked for by the last only.
    """
    by_rank = sorted(forms, key=lambda form: (_is_limited(form), _mends(form)))
    ways = [way for form in by_rank for way in _ways_of(form, secrets)]
    marked = [way for way in ways if not _asks_for_proto(way)]
    return [
        _refusing(digest, *_UNREADABLE),
        *(_passing(way, digest, cluster, is_marked=True) for way in marked),
        _refusing(digest, _MARKED),
        *(_passing(way, digest, cluster, is_marked=False) for way in ways),
        _refusing(digest),
        {**_refusing(digest), "match": {"connect_matcher": {}}},
    ]


def _asks_for_proto(way: _Way) -> bool:
    return any(matcher["name"].lower() == FORWARDED_PROTO for matcher in way.matchers)


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
            form=form.name,
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


def _passing(way: _Way, digest: str, cluster: str, *, is_marked: bool) -> Json:
    added = [
        *(_addition(name, _literal(value), _ADD_LINE) for name, value in way.added),
        *(_addition(name, _literal(value), _SET) for name, value in way.replaced),
    ]
    removed = [*([FORWARDED_PROTO] if is_marked else []), *way.removed]
    # The mark first: looking for it is cheap, and settles the matter for every other request.
    matchers = [*([_MARKED] if is_marked else []), *way.matchers]
    return {
        "name": route_name(digest, way.form),
        "match": {"prefix": "/", "headers": matchers, **_for_names(way.server_names)},
        "route": {"cluster": cluster, "timeout": "0s", **way.counted},
        **({"request_headers_to_remove": removed} if removed else {}),
        **({"request_headers_to_add": added} if added else {}),
    }


def _refusing(digest: str, *matchers: Json) -> Json:
    return {
        "name": route_name(digest, REFUSED),
        "match": {"prefix": "/", "headers": list(matchers)},
        "direct_response": {"status": FORBIDDEN, "body": {"inline_string": REFUSAL}},
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
