"""Which interface the node's routes name for one address alone, as routed CNIs make them.

In:   the kernel's answer to RTM_GETROUTE
Out:  address → interface index
Shell over one netlink question a family; `decode_routes` is pure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from nodeagent.netlink import Rtnetlink, attributes, messages

RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
_RTA_DST: Final = 1
_RTA_OIF: Final = 4
_RTN_UNICAST: Final = 1
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_NUMBER: Final = struct.Struct("=i")
_WHOLE: Final = {socket.AF_INET: 32, socket.AF_INET6: 128}


def read_routes() -> Mapping[str, int]:
    """Address → interface, of every route to one address. Raises OSError."""
    found: dict[str, int] = {}
    with Rtnetlink() as netlink:
        for family in _WHOLE:
            question = _ROUTE.pack(family, *(0,) * 8)
            found.update(decode_routes(netlink.dump(RTM_GETROUTE, question)))
    return found


def decode_routes(answer: bytes) -> Iterable[tuple[str, int]]:
    """Address and interface of each route of an answer that leads to one address, through one interface."""
    for kind, _, body in messages(answer):
        if kind != RTM_NEWROUTE or len(body) < _ROUTE.size:
            continue
        family, bits, *_, route_type, _ = _ROUTE.unpack_from(body)
        if route_type != _RTN_UNICAST or bits != _WHOLE.get(family):
            continue
        given = dict(attributes(body[_ROUTE.size :]))
        address, interface = given.get(_RTA_DST, b""), given.get(_RTA_OIF, b"")
        if len(address) * 8 == bits and len(interface) == _NUMBER.size:
            yield str(ip_address(address)), int(_NUMBER.unpack(interface)[0])
