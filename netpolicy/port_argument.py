"""Read a port as a person writes it: `80`, `tcp/80`, `53/udp`, `icmp/8`.

In:   the text
Out:  protocol and number, or StalledError that says what would be understood
Pure.
"""

from __future__ import annotations

from typing import Final

from netpolicy.errors import StalledError
from netpolicy.rules import LAST_ICMP_TYPE, LAST_PORT, WITH_PORTS, Protocol

SHAPES: Final = "a port is written as 80 (TCP), udp/53, icmp/8 or icmpv6/128"

_PROTOCOLS: Final = {protocol.word: protocol for protocol in Protocol}


def parse_port(text: str) -> tuple[Protocol, int]:
    """The protocol (TCP if none is named) and the port, or the type of an ICMP."""
    first, slash, second = text.lower().partition("/")
    if not slash:
        first, second = Protocol.TCP.word, first
    elif second in _PROTOCOLS:
        first, second = second, first
    protocol = _PROTOCOLS.get(first)
    if protocol is None or not (second.isascii() and second.isdigit()):
        raise StalledError(f'"{text}": {SHAPES}')
    number = int(second)
    if protocol in WITH_PORTS and not 0 < number <= LAST_PORT:
        raise StalledError(f'"{text}": ports run from 1 to {LAST_PORT}')
    if number > (LAST_PORT if protocol in WITH_PORTS else LAST_ICMP_TYPE):
        raise StalledError(f'"{text}": ICMP types run from 0 to {LAST_ICMP_TYPE}')
    return protocol, number
