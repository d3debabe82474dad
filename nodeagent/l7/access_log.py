"""How Envoy is asked to tell each request and how it was judged.

In:   where the log is; a direction and port, a rule set's digest, a rule's place in its set
Out:  parts of Envoy's configuration, and the words by which an entry names what judged it
Pure.

Holds always:
1. The words that are written into the configuration are read back by `nodeagent.l7` and nowhere else.
2. The log's part of a listener depends on nothing but its direction and port: a change of rules, or of a
   candidate, changes no listener.
3. An entry is an object of JSON in a line of its own. Envoy escapes what strangers wrote: no quote, no
   backslash and no line's end of theirs stands in it as such.

An entry says by its teller which listener judged it, and by the route's name which rule set, and which rule
of it or that none let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from netpolicy.rules import Direction

HEADERS_FILTER: Final = "envoy.filters.http.header_to_metadata"
HEADERS_NAMESPACE: Final = "tidegate.headers"
INSPECTOR: Final = "envoy.filters.listener.tls_inspector"
"""Writes into a connection's metadata why it is no TLS."""
FLUSH_SECONDS: Final = 0.25
"""How long Envoy keeps an entry before it writes it to the file."""


class Told(StrEnum):
    """What an entry is about: a request, a connection refused by the name it asked for, or one that came to
    no filter chain."""

    REQUEST = "request"
    NAME = "name"
    CLOSED = "closed"


_WHERE: Final = {
    # What the client wrote of its address is not asked.
    "source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "time": "%START_TIME(%s%9f)%",
    "name": "%REQUESTED_SERVER_NAME%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
}
_REQUEST: Final = {
    **_WHERE,
    "took": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:ns)%",
    # In milliseconds; told also where no answer came to its end.
    "lasted": "%DURATION%",
    "route": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(:PATH)%",
    "host": "%REQ(:AUTHORITY)%",
    "protocol": "%PROTOCOL%",
    "code": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "grpc": "%RESP(GRPC-STATUS):4%",
    "grpc_end": "%TRAILER(GRPC-STATUS):4%",
    "headers": f"%DYNAMIC_METADATA({HEADERS_NAMESPACE})%",
}
_CONNECTION: Final = {
    **_WHERE,
    "failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "inspected": f"%DYNAMIC_METADATA({INSPECTOR})%",
}
"""Fields of entries; one that has no value is null. `nodeagent.l7.log_entries` reads them."""

_NO_CHAIN: Final = "NR"
"""Envoy's word for: nothing is configured for it."""
_FAILED: Final = "connection.transport_failure_reason != ''"
"""A TLS handshake that the proxy, or its client, broke off."""
_REFUSED: Final = "connection.termination_details.startsWith('rbac_access_denied')"
_TYPE: Final = "type.googleapis.com/"
REFUSED: Final = "refused"
"""In a route's name, in place of a rule's: none let the request pass."""
_RULE_PREFIX: Final = "rule-"
_IN_SET: Final = "/"
_TOLD: Final = {told.value: told for told in Told}
_DIRECTIONS: Final = {direction.word: direction for direction in Direction}
_MISSING_PREFIX: Final = "!"
"""No header's name begins so."""


def http_access_log(log: Path, direction: Direction, port: int) -> dict[str, Any]:
    """One entry of `access_log` of an HTTP connection manager: each request, when it is over."""
    return _to_file(log, _REQUEST, teller(Told.REQUEST, direction, port))


def tcp_access_log(log: Path, direction: Direction, port: int) -> dict[str, Any]:
    """One entry of `access_log` of a TCP proxy: each connection that its RBAC filter refused."""
    return {
        **_to_file(log, _CONNECTION, teller(Told.NAME, direction, port)),
        "filter": _where(_REFUSED),
    }


def closed_access_log(log: Path, direction: Direction, port: int) -> dict[str, Any]:
    """One entry of `access_log` of a listener: each connection that came to no filter chain.

    None was for it, or its TLS failed before.
    """
    no_chain = {"response_flag_filter": {"flags": [_NO_CHAIN]}}
    return {
        **_to_file(log, _CONNECTION, teller(Told.CLOSED, direction, port)),
        "filter": {"or_filter": {"filters": [no_chain, _where(_FAILED)]}},
    }


def teller(told: Told, direction: Direction, port: int) -> str:
    """Who tells an entry: what it is about, and the listener."""
    return f"{told} {direction.word} {port}"


def read_teller(by: str) -> tuple[Told, Direction, int] | None:
    """What an entry is about, and its listener; None if nobody is called so."""
    told, _, rest = by.partition(" ")
    word, _, port = rest.partition(" ")
    if told not in _TOLD or word not in _DIRECTIONS or not (port.isascii() and port.isdecimal()):
        return None
    return _TOLD[told], _DIRECTIONS[word], int(port)


def headers_filter() -> dict[str, Any]:
    """An HTTP filter that is passed by until a route configuration asks for headers."""
    return {"name": HEADERS_FILTER, "typed_config": _headers_config(()), "disabled": True}


def headers_of_route(names: Iterable[str]) -> dict[str, Any]:
    """An entry of a route's `typed_per_filter_config`: the request headers that the log must tell.

    A candidate's rules may ask for them: it is evaluated on what the log tells.
    """
    return {HEADERS_FILTER: _headers_config(sorted({name.lower() for name in names}))}


def told_header(key: str) -> tuple[str, bool]:
    """What a key of the headers' metadata says: a header's name, and whether the request has it."""
    return key.removeprefix(_MISSING_PREFIX), not key.startswith(_MISSING_PREFIX)


def route_name(digest: str, judgement: str) -> str:
    """The `name` of a route of a rule set. `judgement`: a form that passes, or REFUSED."""
    return f"{digest}{_IN_SET}{judgement}"


def read_route_name(name: str) -> tuple[str, str]:
    """A rule set's digest and the judgement; both empty where no route was found."""
    digest, _, judgement = name.partition(_IN_SET)
    return digest, judgement


def rule_name(place: int) -> str:
    """The name (or the first part of it, before a dot) of each form of the rule at this place."""
    return f"{_RULE_PREFIX}{place}"


def rule_place(name: str) -> int | None:
    """The place of the rule in its set; None for a name that is no rule's."""
    number = name.removeprefix(_RULE_PREFIX).partition(".")[0]
    if not name.startswith(_RULE_PREFIX) or not (number.isascii() and number.isdigit()):
        return None
    return int(number)


def _where(expression: str) -> dict[str, Any]:
    """A filter of connections, in Envoy's expression language."""
    message = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {"@type": f"{_TYPE}{message}", "expression": expression},
        }
    }


def _to_file(log: Path, fields: Mapping[str, str], by: str) -> dict[str, Any]:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(log),
            "log_format": {"json_format": {"by": by, **fields}},
        },
    }


def _headers_config(names: Iterable[str]) -> dict[str, Any]:
    rules = [
        {
            "header": name,
            "on_header_present": {"metadata_namespace": HEADERS_NAMESPACE, "key": name},
            "on_header_missing": {
                "metadata_namespace": HEADERS_NAMESPACE,
                "key": f"{_MISSING_PREFIX}{name}",
                "value": "1",
            },
            "remove": False,
        }
        for name in names
    ]
    config = f"{_TYPE}envoy.extensions.filters.http.header_to_metadata.v3.Config"
    return {"@type": config, **({"request_rules": rules} if rules else {})}
