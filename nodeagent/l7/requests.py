"""What an entry of Envoy's access log says: which request or connection, between whom, how it was judged.

In:   the log's entries, as Envoy sends them
Out:  JudgedRequest
Pure.

Holds always:
1. A request that no rule let pass counts as refused: what the proxy turned away by itself (no HTTP, a
   malformed request) never reached the server.
2. What a client wrote is bounded and printable where people see it, and whole where rules are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from netpolicy.drop_reasons import POLICY_DENIED, RATE_LIMITED, TLS_FAILED
from netpolicy.http_flow import MAX_HOST, MAX_METHOD, MAX_PATH, TCP, TLS, HttpExchange, printable
from netpolicy.rules import Direction
from netpolicy.wire.envoy.v3 import access_log_pb2 as pb
from nodeagent.l7.access_log import (
    CLOSED_TAG,
    GRPC_STATUS,
    HEADERS_NAMESPACE,
    INSPECTOR,
    METHOD,
    PORT_TAG,
    REFUSED,
    read_route_name,
    rule_place,
    told_header,
)

NANOSECONDS: Final = 1_000_000_000
_TLS_ERROR: Final = b"TLS_error"
_UPGRADE_REFUSED: Final = b"upgrade_failed"
"""CONNECT, and upgrades that are not let pass: whatever the route says."""
_RATE_LIMITED_DETAILS: Final = frozenset({b"local_rate_limited", b"request_rate_limited"})
_PROTOCOLS: Final = {
    pb.HTTP10: "HTTP/1.0",
    pb.HTTP11: "HTTP/1.1",
    pb.HTTP2: "HTTP/2",
    pb.HTTP3: "HTTP/3",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRequest:
    """One request, or a connection that was refused before any. `drop_reason` 0: it was forwarded.

    `rule_set`: the digest of the set that judged it (empty: none was asked), `rule` the place of the rule
    that let it pass, `listener` the proxy's port, `server_name` what TLS asked for (None: it was no TLS).
    `method`, `path` and `host` are whole, `headers` those that the route was asked to tell: name in lower
    case → value, None for one that the request does not have.
    """

    time_ns: int
    direction: Direction
    source: str
    source_port: int
    destination: str
    destination_port: int
    drop_reason: int
    exchange: HttpExchange
    rule_set: str = ""
    rule: int | None = None
    listener: int = 0
    server_name: str | None = None
    method: str = ""
    path: str = ""
    host: str = ""
    headers: Mapping[str, str | None] = field(default_factory=dict)


def judged_request(entry: pb.HttpEntry, direction: Direction) -> JudgedRequest:
    """Read one entry of the log of that direction's listeners."""
    common, request = entry.common_properties, entry.request
    metadata = common.metadata.filter_metadata
    rule_set, judgement = read_route_name(_text(common.route_name))
    reason = _drop_reason(judgement, entry.response)
    # Asking a protobuf map for a key that it has not would add it.
    told = metadata[HEADERS_NAMESPACE].fields if HEADERS_NAMESPACE in metadata else {}
    method = request.request_headers.get(METHOD, b"")
    return JudgedRequest(
        **_where(common, direction),
        drop_reason=reason,
        exchange=_exchange(entry, method),
        rule_set=rule_set,
        rule=None if reason == POLICY_DENIED else rule_place(judgement),
        method=_text(method),
        path=_text(request.path),
        host=_text(request.authority),
        headers=dict(_told(key, value) for key, value in told.items()),
    )


def refused_connection(entry: pb.TcpEntry, direction: Direction) -> JudgedRequest:
    """Read one entry of a connection: only those that were refused are told."""
    common = entry.common_properties
    failed = _failed_as_tls(common)
    # What came to where names are judged was TLS.
    is_tls = failed or CLOSED_TAG not in common.custom_tags or common.HasField("tls_properties")
    exchange = HttpExchange(
        method="",
        path="",
        host=printable(common.tls_properties.tls_sni_hostname, MAX_HOST),
        protocol=TLS if is_tls else TCP,
    )
    reason = TLS_FAILED if failed else POLICY_DENIED
    return JudgedRequest(**_where(common, direction), drop_reason=reason, exchange=exchange)


def _failed_as_tls(common: pb.CommonProperties) -> bool:
    """True if the proxy began to end TLS: what was no TLS to begin with fails where that is looked for."""
    said = common.downstream_transport_failure_reason.startswith(_TLS_ERROR)
    return said and INSPECTOR not in common.metadata.filter_metadata


def _where(common: pb.CommonProperties, direction: Direction) -> dict[str, Any]:
    """What is told of every connection."""
    source = common.downstream_remote_address.socket_address
    destination = common.downstream_local_address.socket_address
    port = common.custom_tags.get(PORT_TAG, b"")
    is_tls = common.HasField("tls_properties")
    return {
        "time_ns": _nanoseconds(common.start_time),
        "direction": direction,
        "source": source.address,
        "source_port": source.port_value,
        "destination": destination.address,
        "destination_port": destination.port_value,
        "listener": int(port) if port.isdigit() else 0,
        "server_name": _text(common.tls_properties.tls_sni_hostname) if is_tls else None,
    }


def _exchange(entry: pb.HttpEntry, method: bytes) -> HttpExchange:
    return HttpExchange(
        method=printable(method, MAX_METHOD),
        path=printable(entry.request.path, MAX_PATH),
        host=printable(entry.request.authority, MAX_HOST),
        protocol=_PROTOCOLS.get(entry.protocol_version, "HTTP"),
        code=entry.response.response_code.value,
        grpc_status=_grpc_status(entry.response),
        latency_ns=_nanoseconds(entry.common_properties.duration),
    )


def _drop_reason(judgement: str, response: pb.ResponseProperties) -> int:
    if response.response_code_details in _RATE_LIMITED_DETAILS:
        return RATE_LIMITED
    is_refused = judgement in ("", REFUSED) or response.response_code_details == _UPGRADE_REFUSED
    return POLICY_DENIED if is_refused else 0


def _grpc_status(response: pb.ResponseProperties) -> int | None:
    """From the trailers, or of an answer that is nothing but headers from those."""
    text = response.response_trailers.get(GRPC_STATUS) or response.response_headers.get(GRPC_STATUS)
    return int(text) if text and text.isdigit() and len(text) <= 3 else None


def _told(key: str, value: pb.Value) -> tuple[str, str | None]:
    name, is_there = told_header(key)
    return name, _text(value.string_value) if is_there else None


def _text(data: bytes) -> str:
    """Whole. What is no UTF-8 becomes what no expression that an author can write matches by chance."""
    return data.decode("utf-8", "surrogateescape")


def _nanoseconds(instant: pb.Instant) -> int:
    return instant.seconds * NANOSECONDS + instant.nanos
