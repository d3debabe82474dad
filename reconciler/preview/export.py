"""Read a flow export: a JSON object a line, as `hubble observe -o json` and `nodeagent flows -o json` write.

In:   bytes of whole lines
Out:  Observed: the flows as columns of numbers, and whom and what the numbers stand for
Pure.

Hubble wraps each flow in `{"flow": …}`; ours bears Hubble's field names. Ends repeat in every line, byte for
byte, so each is read once and known by its bytes from then on.

Holds always:
1. A line that cannot be read, or does not tell its opener or ends, is counted by its reason, never guessed.
2. A reply counts as the flow it answers.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from netpolicy.l7 import DnsQuery, HttpRequest, Request
from netpolicy.rules import Protocol
from reconciler.preview.seen_ends import EndReader

Port = tuple[Protocol, int]
NO_REQUEST: Final = -1
PORTLESS: Final = (Protocol.ICMP, Protocol.ICMPV6)
DROPPED: Final = "DROPPED"
POLICY_VERDICT: Final = 5
"""Hubble's event type: made when a flow is judged for the first time, so that it is no reply."""


class Skipped(StrEnum):
    """Why a line stands for no flow."""

    UNREADABLE = "not JSON of a flow"
    PROTOCOL = "of a protocol that policies do not know"
    DIRECTION = "not told which side opened it"
    ENDS = "an end is not told"
    SHADOW = "what a shadow would do, not what happened"


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


class _Ip(msgspec.Struct, gc=False):
    source: str = ""
    destination: str = ""


_NO_ADDRESS: Final = _Ip()


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


class _Flow(msgspec.Struct, gc=False):
    source: msgspec.Raw = msgspec.Raw(b"{}")
    destination: msgspec.Raw = msgspec.Raw(b"{}")
    IP: _Ip | None = None
    l4: _L4 | None = None
    l7: _L7 | None = None
    verdict: str = ""
    is_reply: bool | None = None
    event_type: _EventType | None = None
    source_names: list[str] | None = None
    destination_names: list[str] | None = None
    audit: _Audit | None = None


class _Line(_Flow, gc=False):
    flow: _Flow | None = None


class Tuple(NamedTuple):
    """A flow by the numbers of an Observed. `request` NO_REQUEST: nothing is known of what it carried."""

    source: int
    destination: int
    port: int
    request: int


@dataclass(slots=True, kw_only=True)
class Observed:
    """Flows as columns: numbers of `ends` and `ports`. Those that bear one of `requests` are in `asked`."""

    ends: EndReader
    ports: list[Port] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    source: array[int] = field(default_factory=lambda: array("i"))
    destination: array[int] = field(default_factory=lambda: array("i"))
    port: array[int] = field(default_factory=lambda: array("i"))
    asked: Counter[Tuple] = field(default_factory=Counter)
    skipped: Counter[Skipped] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.source) + self.asked.total()


class ExportReader:
    """Fills an Observed, block by block."""

    def __init__(self, ends: EndReader) -> None:
        self.observed = Observed(ends=ends)
        self._decoder = msgspec.json.Decoder(_Line)
        self._port_numbers: dict[Port, int] = {}
        self._request_numbers: dict[Request, int] = {}

    def feed(self, block: bytes) -> None:
        """Read whole lines."""
        for line in self._lines(block):
            why = self._take(line.flow or line)
            if why is not None:
                self.observed.skipped[why] += 1

    def _lines(self, block: bytes) -> Iterator[_Line]:
        try:
            yield from self._decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield from self._one_by_one(block)

    def _one_by_one(self, block: bytes) -> Iterator[_Line]:
        """A line that cannot be read takes no other with it."""
        for line in block.splitlines():
            if not line.strip():
                continue
            try:
                yield self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.observed.skipped[Skipped.UNREADABLE] += 1

    def _take(self, flow: _Flow) -> Skipped | None:
        """Note one flow, or say why it is none. Millions of lines come this way."""
        if flow.audit is not None:
            return Skipped.SHADOW
        ports = _ports_of(flow.l4)
        if ports is None:
            return Skipped.PROTOCOL
        is_reply, (protocol, from_port, port) = flow.is_reply, ports
        if (is_reply is None and not _is_opening(flow)) or (is_reply and protocol in PORTLESS):
            return Skipped.DIRECTION
        observed, address = self.observed, flow.IP or _NO_ADDRESS
        source = observed.ends.number(flow.source, address.source, flow.source_names)
        destination = observed.ends.number(
            flow.destination, address.destination, flow.destination_names
        )
        if source is None or destination is None:
            return Skipped.ENDS
        if is_reply:
            source, destination, port = destination, source, from_port
        number = self._port_numbers.get((protocol, port))
        if number is None:
            number = self._port_number((protocol, port))
        if flow.l7 is not None and (request := _request_of(flow.l7)) is not None:
            asked = self._request_number(request)
            observed.asked[Tuple(source, destination, number, asked)] += 1
            return None
        observed.source.append(source)
        observed.destination.append(destination)
        observed.port.append(number)
        return None

    def _port_number(self, port: Port) -> int:
        number = self._port_numbers[port] = len(self.observed.ports)
        self.observed.ports.append(port)
        return number

    def _request_number(self, request: Request) -> int:
        number = self._request_numbers.setdefault(request, len(self.observed.requests))
        if number == len(self.observed.requests):
            self.observed.requests.append(request)
        return number


def _is_opening(flow: _Flow) -> bool:
    """Where Hubble does not say `is_reply`: a verdict on a new flow, or a refused packet, is no reply."""
    return flow.verdict == DROPPED or (
        flow.event_type is not None and flow.event_type.type == POLICY_VERDICT
    )


def _ports_of(l4: _L4 | None) -> tuple[Protocol, int, int] | None:
    """Protocol, the sender's port and the receiver's; of ICMP its type as the latter."""
    if l4 is None:
        return None
    if l4.TCP is not None:
        return Protocol.TCP, l4.TCP.source_port, l4.TCP.destination_port
    if l4.UDP is not None:
        return Protocol.UDP, l4.UDP.source_port, l4.UDP.destination_port
    if l4.SCTP is not None:
        return Protocol.SCTP, l4.SCTP.source_port, l4.SCTP.destination_port
    if l4.ICMPv4 is not None:
        return Protocol.ICMP, 0, l4.ICMPv4.type
    if l4.ICMPv6 is not None:
        return Protocol.ICMPV6, 0, l4.ICMPv6.type
    return None


def _request_of(l7: _L7) -> Request | None:
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
