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

from collections.abc import Iterable
from typing import Any, Final

from netpolicy.rules import Direction, NamePattern
from nodeagent.envoy.chains import Chain, ChainKind
from nodeagent.envoy.document import Json, extension, typed, watched
from nodeagent.envoy.rate_limits import limits_filter
from nodeagent.envoy.request_rules import server_name_permission
from nodeagent.envoy.routes import FORWARDED_PROTO, NO_PROTO, SERVER_NAME_STATE
from nodeagent.envoy.settings import LISTENER_MARKS, UPSTREAM_MARKS, EnvoySettings
from nodeagent.envoy.tls import ending_socket
from nodeagent.envoy.upstream import HTTP1_OPTIONS, ORIGINAL_CLUSTER
from nodeagent.l7.access_log import (
    INSPECTOR,
    closed_access_log,
    headers_filter,
    http_access_log,
    tcp_access_log,
)
from nodeagent.l7.listeners import Listener

MAX_HEADERS_KIB: Final = 60
MAX_HEADERS: Final = 200
HEADERS_SECONDS: Final = 60

_SOL_SOCKET: Final = 1
_SO_MARK: Final = 36
_ROUTER: Final = "envoy.filters.http.router"
_TLS_INSPECTOR: Final = extension(
    INSPECTOR,
    "extensions.filters.listener.tls_inspector.v3.TlsInspector",
)


def listener_name(listener: Listener) -> str:
    """What a listener, its route configuration and its statistics are called."""
    return f"{listener.direction.word}-{listener.port}"


def chain_name(listener: Listener, chain: Chain) -> str:
    """What the route configuration of a chain is called; the first has its listener's name."""
    return f"{listener_name(listener)}-{chain.number}" if chain.number else listener_name(listener)


def listener_config(listener: Listener, chains: Iterable[Chain], settings: EnvoySettings) -> Json:
    """The listener as Envoy reads it, with these of its chains."""
    first, *others = [_address(address, listener.port) for address in settings.addresses]
    served = tuple(chains)
    reads_tls = any(chain.kind in (ChainKind.NAMED, ChainKind.ENDED) for chain in served)
    return typed(
        "config.listener.v3.Listener",
        name=listener_name(listener),
        address=first,
        additional_addresses=[{"address": address} for address in others],
        access_log=[closed_access_log(settings.access_log, listener.direction, listener.port)],
        filter_chains=[_filter_chain(listener, chain, settings) for chain in served],
        listener_filters=[
            *([] if settings.upstream else _as_addressed(listener.direction)),
            *([_TLS_INSPECTOR] if reads_tls else []),
        ],
        **({} if settings.upstream else _transparency(listener.direction)),
    )


def _filter_chain(listener: Listener, chain: Chain, settings: EnvoySettings) -> Json:
    name = chain_name(listener, chain)
    match chain.kind:
        case ChainKind.OPAQUE:
            return {"filters": [_as_bytes(name)]}
        case ChainKind.NAMED:
            log = tcp_access_log(settings.access_log, listener.direction, listener.port)
            filters = [_names_filter(name, chain), _as_bytes(name, access_log=[log])]
            return {"filters": filters, "filter_chain_match": _of_tls(chain)}
        case ChainKind.ENDED:
            assert chain.terminating is not None, "what an ended chain is made from"
            return {
                "filters": [_names_kept(), _as_requests(name, listener, settings)],
                "filter_chain_match": _of_tls(chain),
                "transport_socket": ending_socket(
                    chain.terminating, settings, begun_anew=chain.originating is not None
                ),
            }
        case ChainKind.CLEAR:
            return {
                "filters": [_as_requests(name, listener, settings)],
                "filter_chain_match": {"transport_protocol": "raw_buffer"},
            }


def _of_tls(chain: Chain) -> Json:
    """TLS connections that ask for the names of a chain, or for any if a rule of it names none.

    Wider than the patterns: `*.` is any number of labels here. The rules look closer.
    """
    found: Json = {"transport_protocol": "tls"}
    names = [one.rule.server_names for one in chain.rules]
    if chain.kind is ChainKind.ENDED and all(names):
        patterns = (pattern for listed in names for pattern in listed or ())
        found["server_names"] = sorted({_suffix(pattern) for pattern in patterns})
    return found


def _suffix(pattern: NamePattern) -> str:
    return pattern.name or pattern.pattern.replace("**.", "*.")


def _names_filter(name: str, chain: Chain) -> Json:
    """The rules' places are not told: they change with rules that this chain has nothing to do with."""
    policies = {
        str(number): {
            "permissions": [server_name_permission(one.rule.server_names or ())],
            "principals": [{"any": True}],
        }
        for number, one in enumerate(chain.rules)
    }
    return extension(
        "envoy.filters.network.rbac",
        "extensions.filters.network.rbac.v3.RBAC",
        stat_prefix=name,
        rules={"action": "ALLOW", "policies": policies},
    )


def _names_kept() -> Json:
    """Keeps what TLS asked for where routes see it."""
    kept = {
        "object_key": SERVER_NAME_STATE,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": "%REQUESTED_SERVER_NAME%"}},
    }
    return extension(
        "envoy.filters.network.set_filter_state",
        "extensions.filters.network.set_filter_state.v3.Config",
        on_new_connection=[kept],
    )


def _address(address: str, port: int) -> Json:
    return {"socket_address": {"address": address, "port_value": port}}


def _transparency(direction: Direction) -> Json:
    """Take what is addressed to others."""
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
    }


def _as_addressed(direction: Direction) -> list[Json]:
    """Go on to where a connection was addressed, as who it came from."""
    filters = "envoy.filters.listener."
    return [
        extension(
            f"{filters}original_dst", "extensions.filters.listener.original_dst.v3.OriginalDst"
        ),
        extension(
            f"{filters}original_src",
            "extensions.filters.listener.original_src.v3.OriginalSrc",
            mark=UPSTREAM_MARKS[direction],
        ),
    ]


def _as_bytes(name: str, **fields: Any) -> Json:
    """Bytes as they come: where everything passes, what is not HTTP passes too."""
    return extension(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=ORIGINAL_CLUSTER,
        idle_timeout="0s",
        **fields,
    )


def _as_requests(name: str, listener: Listener, settings: EnvoySettings) -> Json:
    return extension(
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
        access_log=[http_access_log(settings.access_log, listener.direction, listener.port)],
    )


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
    mark_no_proto = extension(
        "envoy.http.early_header_mutation.header_mutation",
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[
            {
                "append": {
                    "header": {"key": FORWARDED_PROTO, "value": NO_PROTO},
                    "append_action": "ADD_IF_ABSENT",
                }
            }
        ],
    )
    return {
        "early_header_mutation_extensions": [mark_no_proto],
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
    """All but the last are passed by until a route configuration asks for them; its routes judge."""
    return [
        headers_filter(),
        limits_filter(),
        extension(
            _ROUTER,
            "extensions.filters.http.router.v3.Router",
            dynamic_stats=False,
            suppress_envoy_headers=True,
        ),
    ]
