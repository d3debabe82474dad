"""What Envoy reads once, when it starts: its admin socket, where its listeners are listed, its upstream.

In:   EnvoySettings
Out:  the bootstrap's bytes; a digest that the running Envoy tells
Pure.

Holds always:
1. The administrator's interface is a socket of the agent's folder, for its owner only; there is no port.
2. Each client connection has upstream connections of its own: no request of one client can end up behind
   that of another.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from nodeagent.envoy.document import Json, encode, typed, watched
from nodeagent.envoy.listener import HTTP1_OPTIONS, ORIGINAL_CLUSTER
from nodeagent.envoy.settings import EnvoySettings
from nodeagent.l7.access_log import access_log_cluster

DIGEST_KEY: Final = "bootstrap"
CONNECT_SECONDS: Final = 10
NO_LIMIT: Final = (1 << 32) - 1
REGEX_PROGRAM_SIZE: Final = 1_000_000
"""More than any expression that `netpolicy.regex` takes compiles to: Envoy refuses none of them."""

READINGS: Final = {
    # Several headers of one name are one value: else "no" and "yes" would pass for "yes".
    "envoy.reloadable_features.rbac_match_headers_individually": False,
    "envoy.reloadable_features.match_headers_individually": False,
    # A dot segment with parameters is a dot segment.
    "envoy.reloadable_features.strip_path_parameters_per_segment": True,
}
"""How Envoy reads requests, where its versions differ: as `netpolicy.l7` does."""

_OWNER_ONLY: Final = 0o600
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def bootstrap(settings: EnvoySettings) -> tuple[str, bytes]:
    """The digest of the bootstrap, and its bytes, which hold the digest."""
    document = _document(settings)
    digest = sha256(encode(document)).hexdigest()
    document["node"]["metadata"] = {DIGEST_KEY: digest}
    return digest, encode(document)


def _document(settings: EnvoySettings) -> Json:
    admin = {"pipe": {"path": str(settings.admin), "mode": _OWNER_ONLY}}
    runtime = {
        "re2.max_program_size.error_level": REGEX_PROGRAM_SIZE,
        "re2.max_program_size.warn_level": REGEX_PROGRAM_SIZE,
        **READINGS,
    }
    return {
        "node": {"id": "tidegate", "cluster": "tidegate"},
        "admin": {"address": admin},
        "dynamic_resources": {"lds_config": watched(str(settings.listeners))},
        "static_resources": {
            "clusters": [_original_cluster(settings), access_log_cluster(settings.access_log)]
        },
        "layered_runtime": {"layers": [{"name": "tidegate", "static_layer": runtime}]},
    }


def _original_cluster(settings: EnvoySettings) -> Json:
    """Where the client sent the request; under a fixed `upstream`, there."""
    return {
        "name": ORIGINAL_CLUSTER,
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "connection_pool_per_downstream_connection": True,
        "circuit_breakers": {"thresholds": [_unlimited("DEFAULT"), _unlimited("HIGH")]},
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: typed(
                _HTTP_OPTIONS.removeprefix("envoy."),
                use_downstream_protocol_config={
                    "http_protocol_options": HTTP1_OPTIONS,
                    "http2_protocol_options": {},
                },
            )
        },
        **_where(settings),
    }


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
