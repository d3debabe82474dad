"""Ports and ICMP types as authors write them.

In:   text or a number
Out:  the number, or None if it is none
Pure.
"""

from __future__ import annotations

import re
from typing import Final

from netpolicy.rules import LAST_ICMP_TYPE, LAST_PORT, Protocol
from netpolicy.scalars import resolve_plain

PORT_NAME: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9](-?[A-Za-z0-9])*")
MAX_PORT_NAME: Final = 15

# Cilium's names (pkg/policy/api/icmp.go of 1.19.4).
ICMP_TYPES: Final[dict[Protocol, dict[str, int]]] = {
    Protocol.ICMP: {
        "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8,
        "RouterAdvertisement": 9, "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12,
        "Timestamp": 13, "TimestampReply": 14, "Photuris": 40, "ExtendedEchoRequest": 42,
        "ExtendedEchoReply": 43,
    },
    Protocol.ICMPV6: {
        "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
        "EchoRequest": 128, "EchoReply": 129, "MulticastListenerQuery": 130,
        "MulticastListenerReport": 131, "MulticastListenerDone": 132, "RouterSolicitation": 133,
        "RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136,
        "RedirectMessage": 137, "RouterRenumbering": 138, "ICMPNodeInformationQuery": 139,
        "ICMPNodeInformationResponse": 140, "InverseNeighborDiscoverySolicitation": 141,
        "InverseNeighborDiscoveryAdvertisement": 142, "HomeAgentAddressDiscoveryRequest": 144,
        "HomeAgentAddressDiscoveryReply": 145, "MobilePrefixSolicitation": 146,
        "MobilePrefixAdvertisement": 147, "DuplicateAddressRequestCodeSuffix": 157,
        "DuplicateAddressConfirmationCodeSuffix": 158, "ExtendedEchoRequest": 160,
        "ExtendedEchoReply": 161,
    },
}  # fmt: skip
FAMILIES: Final = {"IPv4": Protocol.ICMP, "IPv6": Protocol.ICMPV6}
DEFAULT_FAMILY: Final = "IPv4"


def port_number(text: str) -> int | None:
    """The port a text names in any of the bases that Cilium reads, or None."""
    number = resolve_plain(text) if text[:1].isdigit() else None
    is_port = isinstance(number, int) and not isinstance(number, bool) and number <= LAST_PORT
    return number if is_port else None  # type: ignore[return-value]


def is_port_name(text: str) -> bool:
    """True if a container could give a port this name."""
    return len(text) <= MAX_PORT_NAME and PORT_NAME.fullmatch(text) is not None


def icmp_type(family: str, written: str | int) -> int | None:
    """The ICMP type that a number or a name means in this family, or None."""
    if isinstance(written, str) and not written.isdigit():
        return ICMP_TYPES[FAMILIES[family]].get(written)
    number = int(written) if len(str(written)) <= 3 else -1
    return number if 0 <= number <= LAST_ICMP_TYPE else None
