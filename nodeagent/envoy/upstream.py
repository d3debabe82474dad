"""Where requests go once they have passed: to where their client sent them.

In:   EnvoySettings
Out:  a cluster of Envoy's API
Pure.

Holds always:
1. Each client connection has upstream connections of its own: no request of one client can end up behind
   that of another.
2. In clear, HTTP/2 goes on as HTTP/2, HTTP/1 as HTTP/1.
"""

from __future__ import annotations

from typing import Final

from nodeagent.envoy.document import Json, typed
from nodeagent.envoy.settings import EnvoySettings

ORIGINAL_CLUSTER: Final = "original"
CONNECT_SECONDS: Final = 10
IDLE_SECONDS: Final = 5
"""How long an upstream connection waits for a next request. Envoy keeps it even when its client is gone, and
each holds a port of the client's address towards that server: they run out where connections come and go."""
NO_LIMIT: Final = (1 << 32) - 1

_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_PRESERVE_CASE: Final = typed(
    "extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
)
HTTP1_OPTIONS: Final[Json] = {
    "enable_trailers": True,
    "header_key_format": {
        "stateful_formatter": {"name": "preserve_case", "typed_config": _PRESERVE_CASE}
    },
}
"""Names of headers stay as they are spelt, and trailers stay."""


def original_cluster(settings: EnvoySettings) -> Json:
    """Where the client sent the request; under a fixed `upstream`, there."""
    return {
        "name": ORIGINAL_CLUSTER,
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "connection_pool_per_downstream_connection": True,
        "circuit_breakers": {"thresholds": [_unlimited("DEFAULT"), _unlimited("HIGH")]},
        "typed_extension_protocol_options": http_options(
            use_downstream_protocol_config={
                "http_protocol_options": HTTP1_OPTIONS,
                "http2_protocol_options": {},
            }
        ),
        **_where(settings),
    }


def http_options(**options: Json) -> Json:
    """How a cluster speaks HTTP."""
    idle: Json = {"idle_timeout": f"{IDLE_SECONDS}s"}
    options = {"common_http_protocol_options": idle, **options}
    return {_HTTP_OPTIONS: typed(_HTTP_OPTIONS.removeprefix("envoy."), **options)}


def _where(settings: EnvoySettings) -> Json:
    if settings.upstream is None:
        return {"type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    address, port = settings.upstream
    endpoint = {"address": {"socket_address": {"address": address, "port_value": port}}}
    return {
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": ORIGINAL_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }


def _unlimited(priority: str) -> Json:
    """One pod's many connections must not refuse another's."""
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"priority": priority, **dict.fromkeys(limits, NO_LIMIT)}
