"""What an entry of Envoy's access log says: which request or connection, between whom, how it was judged.

In:   the log's entries
Out:  JudgedRequest
Pure. What repeats in entries is worked out once: nodes judge thousands of requests a second.

Holds always:
1. A request that no rule let pass counts as refused: what the proxy turned away by itself (no HTTP, a
   malformed request) never reached the server.
2. What a client wrote is bounded and printable where people see it, and whole where rules are asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from netpolicy.drop_reasons import POLICY_DENIED, RATE_LIMITED, TLS_FAILED
from netpolicy.http_flow import MAX_HOST, MAX_METHOD, MAX_PATH, TCP, TLS, HttpExchange, shown
from netpolicy.rules import Direction
from nodeagent.l7.access_log import (
    REFUSED,
    Told,
    read_route_name,
    read_teller,
    rule_place,
    told_header,
)
from nodeagent.l7.log_entries import Entry

NANOSECONDS: Final = 1_000_000_000
MAX_REMEMBERED: Final = 16_384
"""Addresses with their ports, routes: nothing that strangers can make long."""
NO_HEADERS: Final[Mapping[str, str | None]] = MappingProxyType({})
_TLS_ERROR: Final = "TLS_error"
_UPGRADE_REFUSED: Final = "upgrade_failed"
"""CONNECT, and upgrades that are not let pass: whatever the route says."""
_RATE_LIMITED_DETAILS: Final = frozenset({"local_rate_limited", "request_rate_limited"})
_OF_A_MILLISECOND: Final = 1_000_000
_ANY_HTTP: Final = "HTTP"
_STATUS_DIGITS: Final = 3


class JudgedRequest(NamedTuple):
    """One request, or a connection that was refused before any. `drop_reason` 0: it was forwarded.

    `rule_set`: the digest of the set that judged it (empty: none was asked), `rule` the place of the rule
    that let it pass, `listener` the proxy's port, `server_name` what TLS asked for (None: it was no TLS).
    `method`, `path` and `host` are whole, `headers` those that the route was asked to tell: name in lower
    case → value, None for one that the request does not have. The rest is as in HttpExchange.
    """

    time_ns: int
    direction: Direction
    source: str
    source_port: int
    destination: str
    destination_port: int
    drop_reason: int
    rule_set: str = ""
    rule: int | None = None
    listener: int = 0
    server_name: str | None = None
    method: str = ""
    path: str = ""
    host: str = ""
    headers: Mapping[str, str | None] = NO_HEADERS
    protocol: str = "HTTP/1.1"
    code: int = 0
    grpc_status: int | None = None
    latency_ns: int = 0

    @property
    def exchange(self) -> HttpExchange:
        """What people are shown of it."""
        return HttpExchange(
            shown(self.method, MAX_METHOD),
            shown(self.path, MAX_PATH),
            shown(self.host, MAX_HOST),
            self.protocol,
            self.code,
            self.grpc_status,
            self.latency_ns,
        )


def judged_requests(entries: Iterable[Entry]) -> list[JudgedRequest]:
    """Read entries; one of a teller that nobody knows is none."""
    return [_judged(entry) for entry in entries if _teller(entry.by) is not None]


def _judged(entry: Entry) -> JudgedRequest:
    teller = _teller(entry.by)
    assert teller is not None  # the caller looked
    told, direction, listener = teller
    source, source_port = _end(entry.source)
    destination, destination_port = _end(entry.destination)
    if told is Told.REQUEST:
        rule_set, rule, reason = _judgement(entry.route or "", entry.details or "")
        host, protocol = entry.host or "", entry.protocol or _ANY_HTTP
    else:
        rule_set, rule, reason = "", None, TLS_FAILED if _failed_as_tls(entry) else POLICY_DENIED
        host, protocol = entry.name or "", _kind_of_connection(entry, told)
    # By position: this is done for every request.
    return JudgedRequest(
        entry.time,
        direction,
        source,
        source_port,
        destination,
        destination_port,
        reason,
        rule_set,
        rule,
        listener,
        _server_name(entry),
        entry.method or "",
        entry.path or "",
        host,
        _headers(entry.headers) if entry.headers else NO_HEADERS,
        protocol,
        entry.code,
        _grpc_status(entry.grpc_end or entry.grpc or ""),
        (entry.lasted or 0) * _OF_A_MILLISECOND if entry.took is None else entry.took,
    )


@lru_cache(maxsize=MAX_REMEMBERED)
def _teller(by: str) -> tuple[Told, Direction, int] | None:
    return read_teller(by)


@lru_cache(maxsize=MAX_REMEMBERED)
def _end(text: str) -> tuple[str, int]:
    """An address and a port: `10.0.0.1:80`, `[fd00::1]:80`."""
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port) if port.isdecimal() else 0


@lru_cache(maxsize=MAX_REMEMBERED)
def _judgement(route: str, details: str) -> tuple[str, int | None, int]:
    """The rule set, the rule that let a request pass, and why it was dropped."""
    rule_set, judgement = read_route_name(route)
    reason = _drop_reason(judgement, details)
    return rule_set, None if reason == POLICY_DENIED else rule_place(judgement), reason


def _drop_reason(judgement: str, details: str) -> int:
    if details in _RATE_LIMITED_DETAILS:
        return RATE_LIMITED
    is_refused = judgement in ("", REFUSED) or details == _UPGRADE_REFUSED
    return POLICY_DENIED if is_refused else 0


def _server_name(entry: Entry) -> str | None:
    return "" if entry.name is None and entry.tls is not None else entry.name


def _kind_of_connection(entry: Entry, told: Told) -> str:
    """What came to where names are judged was TLS."""
    is_tls = told is Told.NAME or _server_name(entry) is not None or _failed_as_tls(entry)
    return TLS if is_tls else TCP


def _failed_as_tls(entry: Entry) -> bool:
    """True if the proxy began to end TLS: what was no TLS to begin with fails where that is looked for."""
    return (entry.failure or "").startswith(_TLS_ERROR) and entry.inspected is None


def _grpc_status(text: str) -> int | None:
    """From the trailers, or of an answer that is nothing but headers from those."""
    if not text:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= _STATUS_DIGITS
    return int(text) if is_number else None


def _headers(told: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, value in told.items():
        name, is_there = told_header(key)
        found[name] = value if is_there else None
    return found
