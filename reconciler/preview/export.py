"""Read a flow export: a JSON object a line, as `hubble observe -o json` and `nodeagent flows -o json` write.

In:   bytes of whole lines
Out:  Observed: the flows as numbers, and whom and what the numbers stand for
Pure.

Ends repeat in every line, byte for byte, so each is read once and known by its bytes from then on.

Holds always:
1. A line that cannot be read, or does not tell its opener or ends, is counted by its reason, never guessed.
2. A reply counts as the flow it answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from netpolicy.l7 import Request
from netpolicy.rules import Protocol
from reconciler.preview.line import Flow, Line, is_opening, ports_of, request_of
from reconciler.preview.observed import Observed, Port, Skipped, Tuple
from reconciler.preview.seen_ends import EndReader

PORTLESS: Final = (Protocol.ICMP, Protocol.ICMPV6)


class ExportReader:
    """Fills an Observed, block by block."""

    def __init__(self, ends: EndReader) -> None:
        self.observed = Observed(ends=ends.seen)
        self._ends = ends
        self._decoder = msgspec.json.Decoder(Line)
        self._port_numbers: dict[Port, int] = {}
        self._request_numbers: dict[Request, int] = {}

    def feed(self, block: bytes, number: int = 0) -> None:
        """Read whole lines; `number` says where in the export they are."""
        observed = self.observed
        for line in self._lines(block):
            why = self._take(line.flow or line)
            if why is not None:
                observed.skipped[why] += 1
        observed.met.extend([number] * (len(observed.ends) - len(observed.met)))

    def _lines(self, block: bytes) -> Iterator[Line]:
        try:
            yield from self._decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            yield from self._one_by_one(block)

    def _one_by_one(self, block: bytes) -> Iterator[Line]:
        """A line that cannot be read takes no other with it."""
        for line in block.splitlines():
            if not line.strip():
                continue
            try:
                yield self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.observed.skipped[Skipped.UNREADABLE] += 1

    def _take(self, flow: Flow) -> Skipped | None:
        """Note one flow, or say why it is none. Millions of lines come this way."""
        if flow.audit is not None:
            return Skipped.SHADOW
        ports = ports_of(flow)
        if ports is None:
            return Skipped.PROTOCOL
        is_reply, (protocol, from_port, port) = flow.is_reply, ports
        if (is_reply is None and not is_opening(flow)) or (is_reply and protocol in PORTLESS):
            return Skipped.DIRECTION
        observed, ends = self.observed, self._ends
        if (source := ends.known.get(bytes(flow.source))) is None:
            source = ends.source_of(flow)
        if (destination := ends.known.get(bytes(flow.destination))) is None:
            destination = ends.destination_of(flow)
        if source is None or destination is None:
            return Skipped.ENDS
        if is_reply:
            source, destination, port = destination, source, from_port
        number = self._port_numbers.get((protocol, port))
        if number is None:
            number = self._port_number((protocol, port))
        request = None if flow.l7 is None else request_of(flow)
        if request is None:
            observed.sources[destination, number].append(source)
        else:
            asked = self._request_number(request)
            observed.asked[Tuple(source, destination, number, asked)] += 1
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
