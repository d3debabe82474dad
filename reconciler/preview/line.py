"""A line of a flow export, as far as a policy's verdict depends on it.

In:   JSON as `hubble observe -o json` and `nodeagent flows -o json` write it
Out:  Flow; its ports, its request, whether it opens a connection
Pure.

Most of a line is skipped. What is needed of few lines only stays as the bytes it is, until somebody asks.
"""

from __future__ import annotations

from typing import Final

import msgspec

from netpolicy.l7 import DnsQuery, HttpRequest, Request
from netpolicy.rules import Protocol

DROPPED: Final = b'"DROPPED"'
POLICY_VERDICT: Final = 5
"""Hubble's event type: made when a flow is judged for the first time, so that it is no reply."""

_ABSENT: Final = msgspec.Raw(b"{}")
# Looked up once: a member of an enumeration is slow to come by, and every line asks for one.
_TCP: Final = Protocol.TCP
_UDP: Final = Protocol.UDP


class _Ports(msgspec.Struct, gc=False):
    source_port: int = 0
    destination_port: int = 0


class _Icmp(msgspec.Struct, gc=False):
    type: int = 0


class _L4(msgspec.Struct, gc=False):
    TCP: _Ports | None = None
    UDP: _Ports | None = None
    SCTP: _Ports | None = None
    ICMPv4: _Icmp | None = None
    ICMPv6: _Icmp | None = None


class _Header(msgspec.Struct, gc=False):
    key: str = ""
    value: str = ""


class _Http(msgspec.Struct, gc=False):
    method: str = ""
    url: str = ""
    headers: list[_Header] | None = None


class _Dns(msgspec.Struct, gc=False):
    query: str = ""


class _L7(msgspec.Struct, gc=False):
    http: _Http | None = None
    dns: _Dns | None = None


class _EventType(msgspec.Struct, gc=False):
    type: int = 0


class _Audit(msgspec.Struct, gc=False):
    generation: str = ""


class Flow(msgspec.Struct, gc=False):
    """What is read of a flow, by the names that Hubble gives it."""

    verdict: msgspec.Raw = _ABSENT
    IP: msgspec.Raw = _ABSENT
    l4: _L4 | None = None
    source: msgspec.Raw = _ABSENT
    destination: msgspec.Raw = _ABSENT
    source_names: list[str] | None = None
    destination_names: list[str] | None = None
    l7: _L7 | None = None
    event_type: msgspec.Raw = _ABSENT
    is_reply: bool | None = None
    audit: _Audit | None = None


class Line(Flow, gc=False):
    """Hubble wraps each flow in `{"flow": …}`; ours is none."""

    flow: Flow | None = None


_EVENT_TYPES: Final = msgspec.json.Decoder(_EventType)


def is_opening(flow: Flow) -> bool:
    """Where Hubble does not say `is_reply`: a verdict on a new flow, or a refused packet, is no reply."""
    if bytes(flow.verdict) == DROPPED:
        return True
    try:
        return _EVENT_TYPES.decode(flow.event_type).type == POLICY_VERDICT
    except msgspec.DecodeError:
        return False


def ports_of(flow: Flow) -> tuple[Protocol, int, int] | None:
    """Protocol, the sender's port and the receiver's; of ICMP its type as the latter."""
    l4 = flow.l4
    if l4 is None:
        return None
    if (ports := l4.TCP) is not None:
        return _TCP, ports.source_port, ports.destination_port
    if (ports := l4.UDP) is not None:
        return _UDP, ports.source_port, ports.destination_port
    if (ports := l4.SCTP) is not None:
        return Protocol.SCTP, ports.source_port, ports.destination_port
    if l4.ICMPv4 is not None:
        return Protocol.ICMP, 0, l4.ICMPv4.type
    if l4.ICMPv6 is not None:
        return Protocol.ICMPV6, 0, l4.ICMPv6.type
    return None


def request_of(flow: Flow) -> Request | None:
    """What it asked for, if that was seen."""
    l7 = flow.l7
    if l7 is None:
        return None
    if l7.dns is not None and l7.dns.query:
        return DnsQuery(name=l7.dns.query.rstrip(".").lower())
    if l7.http is None or not l7.http.method:
        return None
    return _http_request(l7.http)


def _http_request(seen: _Http) -> HttpRequest:
    rest = seen.url.partition("://")[2] if "://" in seen.url else seen.url
    host, slash, path = rest.partition("/")
    headers = tuple((one.key, one.value) for one in seen.headers or ())
    return HttpRequest(method=seen.method, path=f"{slash}{path}" or "/", host=host, headers=headers)
