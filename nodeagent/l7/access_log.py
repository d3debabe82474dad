"""How Envoy is asked to tell each request and how it was judged.

In:   where the agent listens; a direction and port, a rule set's digest, a rule's place in its set
Out:  parts of Envoy's configuration, and the words by which an entry names what judged it
Pure.

Holds always:
1. The words that are written into the configuration are read back here and nowhere else.
2. The log's part of a listener depends on nothing but its direction and port: a change of rules, or of a
   candidate, changes no listener.

An entry says which direction judged it by the log's name, which listener by a tag, and by the route's name
which rule set, and which rule of it or that none let it pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from netpolicy.rules import Direction

CLUSTER: Final = "tidegate_access_log"
HEADERS_FILTER: Final = "envoy.filters.http.header_to_metadata"
HEADERS_NAMESPACE: Final = "tidegate.headers"
INSPECTOR: Final = "envoy.filters.listener.tls_inspector"
"""Writes into a connection's metadata why it is no TLS."""
GRPC_STATUS: Final = "grpc-status"
METHOD: Final = ":method"
PORT_TAG: Final = "port"
CLOSED_TAG: Final = "closed"
"""On connections that came to no filter chain."""

_FLUSH_SECONDS: Final = 0.25
_BUFFER_BYTES: Final = 64 * 1024
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
_MISSING_PREFIX: Final = "!"
"""No header's name begins so."""


def access_log_cluster(socket: Path) -> dict[str, Any]:
    """The cluster (a static one) that leads to the agent. While nobody listens there requests still pass."""
    address = {"pipe": {"path": str(socket)}}
    http2: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                **http2,
            }
        },
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


def http_access_log(direction: Direction, port: int) -> dict[str, Any]:
    """One entry of `access_log` of an HTTP connection manager: each request, when it is over."""
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config": _to_agent(direction, {PORT_TAG: str(port)}),
            # Envoy's own field knows the usual methods only.
            "additional_request_headers_to_log": [METHOD],
            "additional_response_headers_to_log": [GRPC_STATUS],
            "additional_response_trailers_to_log": [GRPC_STATUS],
        },
    }


def tcp_access_log(direction: Direction, port: int) -> dict[str, Any]:
    """One entry of `access_log` of a TCP proxy: each connection that its RBAC filter refused."""
    return {
        **_connections_log(direction, {PORT_TAG: str(port)}),
        "filter": _where(_REFUSED),
    }


def closed_access_log(direction: Direction, port: int) -> dict[str, Any]:
    """One entry of `access_log` of a listener: each connection that came to no filter chain.

    None was for it, or its TLS failed before.
    """
    no_chain = {"response_flag_filter": {"flags": [_NO_CHAIN]}}
    return {
        **_connections_log(direction, {PORT_TAG: str(port), CLOSED_TAG: "1"}),
        "filter": {"or_filter": {"filters": [no_chain, _where(_FAILED)]}},
    }


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


def log_name(direction: Direction) -> str:
    """The log of this direction's listeners."""
    return direction.word


def _connections_log(direction: Direction, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": "envoy.access_loggers.tcp_grpc",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
            "common_config": _to_agent(direction, tags),
        },
    }


def _where(expression: str) -> dict[str, Any]:
    """A filter of connections, in Envoy's expression language."""
    message = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    return {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.cel",
            "typed_config": {"@type": f"{_TYPE}{message}", "expression": expression},
        }
    }


def _to_agent(direction: Direction, tags: Mapping[str, str]) -> dict[str, Any]:
    return {
        "log_name": log_name(direction),
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}},
        "buffer_flush_interval": f"{_FLUSH_SECONDS}s",
        "buffer_size_bytes": _BUFFER_BYTES,
        "custom_tags": [{"tag": tag, "literal": {"value": value}} for tag, value in tags.items()],
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
