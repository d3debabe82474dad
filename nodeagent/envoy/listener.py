"""One listener of Envoy: how it takes connections, and what it leaves of them as it was.

In:   a port and direction of the proxy; what of the settings a listener needs
Out:  a Listener of Envoy's API
Pure. A change of HTTP rules changes nothing here: they are in route configurations.

Holds always:
1. A request that the route configuration does not allow is refused, and so is each while there is none.
2. The proxy adds no header to a request, retries none, and sets no limit on how long one may take.
3. A path is judged in the form it is passed on in, which is that of `netpolicy.http_path`.
"""

from __future__ import annotations

from typing import Final

from netpolicy.http_path import DOTS_BEFORE_SEMICOLON
from netpolicy.rules import Direction
from nodeagent.envoy.document import Json, extension, typed, watched
from nodeagent.envoy.request_rules import (
    FORWARDED_PROTO,
    KEPT_PROTO,
    PATH,
    header_expression,
)
from nodeagent.envoy.settings import LISTENER_MARKS, UPSTREAM_MARKS, EnvoySettings
from nodeagent.l7.access_log import RBAC_FILTER, headers_filter, http_access_log, tcp_access_log
from nodeagent.l7.listeners import Listener

ORIGINAL_CLUSTER: Final = "original"
MAX_HEADERS_KIB: Final = 60
MAX_HEADERS: Final = 200
HEADERS_SECONDS: Final = 60
UNREADABLE: Final = "unreadable"
"""In the access log, what refused a path that servers read in different ways."""

_SOL_SOCKET: Final = 1
_SO_MARK: Final = 36
_ROUTER: Final = "envoy.filters.http.router"
_PRESERVE_CASE: Final = typed(
    "extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
)
HTTP1_OPTIONS: Final[Json] = {
    "enable_trailers": True,
    "header_key_format": {
        "stateful_formatter": {"name": "preserve_case", "typed_config": _PRESERVE_CASE}
    },
}  # fmt: skip


def listener_name(listener: Listener) -> str:
    """What a listener, its route configuration and its statistics are called."""
    return f"{listener.direction.word}-{listener.port}"


def listener_config(listener: Listener, settings: EnvoySettings) -> Json:
    """The listener as Envoy reads it."""
    name = listener_name(listener)
    first, *others = [_address(address, listener.port) for address in settings.addresses]
    if listener.rule_set.allows_everything:
        chain = _opaque_chain(name, listener.direction)
    else:
        chain = _http_chain(name, listener.direction, settings)
    return typed(
        "config.listener.v3.Listener",
        name=name,
        address=first,
        additional_addresses=[{"address": address} for address in others],
        filter_chains=[chain],
        **({} if settings.upstream else _transparency(listener.direction)),
    )


def _address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _transparency(direction: Direction) -> Json:
    """Take what is addressed to others, and go on to where it was addressed, as who it came from."""
    return {
        "transparent": True,
        "socket_options": [
            {
                "description": "tells the kernel's side whose packets these are",
                "level": _SOL_SOCKET,
                "name": _SO_MARK,
                "int_value": LISTENER_MARKS[direction],
                "state": "STATE_PREBIND",
            }
        ],
        "listener_filters": [
            extension(
                "envoy.filters.listener.original_dst",
                "extensions.filters.listener.original_dst.v3.OriginalDst",
            ),
            extension(
                "envoy.filters.listener.original_src",
                "extensions.filters.listener.original_src.v3.OriginalSrc",
                mark=UPSTREAM_MARKS[direction],
            ),
        ],
    }


def _opaque_chain(name: str, direction: Direction) -> Json:
    """Bytes as they come: where everything passes, what is not HTTP passes too."""
    proxy = extension(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=ORIGINAL_CLUSTER,
        idle_timeout="0s",
        access_log=[tcp_access_log(direction)],
    )
    return {"filters": [proxy]}


def _http_chain(name: str, direction: Direction, settings: EnvoySettings) -> Json:
    manager = extension(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        **_limits(),
        **_nothing_of_its_own(),
        **_one_reading(),
        stat_prefix=name,
        codec_type="AUTO",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        rds={"route_config_name": name, "config_source": watched(str(settings.routes(name)))},
        http_filters=_http_filters(),
        access_log=[http_access_log(direction)],
    )
    return {"filters": [manager]}


def _limits() -> Json:
    """Bounds on what a client may make the proxy hold; none on streams, which may be long and quiet."""
    return {
        "max_request_headers_kb": MAX_HEADERS_KIB,
        "common_http_protocol_options": {"max_headers_count": MAX_HEADERS},
        "request_headers_timeout": f"{HEADERS_SECONDS}s",
        "stream_idle_timeout": "0s",
    }


def _nothing_of_its_own() -> Json:
    """What keeps the proxy out of the requests and responses that pass."""
    keep_proto = extension(
        "envoy.http.early_header_mutation.header_mutation",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {"remove": KEPT_PROTO},
            {"append": {"header": {"key": KEPT_PROTO, "value": f"%REQ({FORWARDED_PROTO})%"}}},
        ],
    )
    return {
        "early_header_mutation_extensions": [keep_proto],
        "generate_request_id": False,
        "preserve_external_request_id": True,
        "server_header_transformation": "PASS_THROUGH",
        "proxy_100_continue": True,
    }


def _one_reading() -> Json:
    """Requests are judged in the form they are passed on in; what can be read in two ways is refused."""
    return {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "http_protocol_options": {**HTTP1_OPTIONS, "accept_http_10": True},
    }


def _http_filters() -> list[Json]:
    """The route configuration tells the RBAC filter what passes; by itself it lets nothing."""
    refusals = {
        UNREADABLE: {
            "permissions": [{"header": header_expression(PATH, DOTS_BEFORE_SEMICOLON)}],
            "principals": [{"any": True}],
        }
    }
    return [
        headers_filter(),
        extension(
            "tidegate.unreadable",
            "extensions.filters.http.rbac.v3.RBAC",
            rules={"action": "DENY", "policies": refusals},
        ),
        extension(RBAC_FILTER, "extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW"}),
        extension(_ROUTER, "extensions.filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]
