"""Look into a pod's network namespace from outside: its interfaces and their addresses.

In:   the number that our namespace gives the other (`Link.peer_netns`), or a path of it
Out:  Inside values
Shell over netlink questions that name a namespace by that number. Nothing enters the namespace: an agent
needs no right to.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import defaultdict
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from nodeagent.endpoints.links import RTM_GETLINK, decode_links, link_question
from nodeagent.netlink import Rtnetlink, attribute, attributes, messages

RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_GETNSID: Final = 90
_NETNSA_NSID: Final = 1
_NETNSA_FD: Final = 3
_IFLA_TARGET_NETNSID: Final = 46
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_TARGET_NETNSID: Final = 10
_GENERIC: Final = struct.Struct("=Bxxx")
_ADDRESS: Final = struct.Struct("=BBBBi")
_NUMBER: Final = struct.Struct("=i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """An interface within a pod."""

    index: int
    mac: str
    addresses: frozenset[str]


def netns_number(path: Path) -> int:
    """The number of a namespace that something leads to from here; -1 if nothing does. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        question = _GENERIC.pack(socket.AF_UNSPEC) + attribute(_NETNSA_FD, _NUMBER.pack(descriptor))
        with Rtnetlink() as netlink:
            body = netlink.ask(RTM_GETNSID, question)
    finally:
        os.close(descriptor)
    number = dict(attributes(body[_GENERIC.size :])).get(_NETNSA_NSID, b"")
    return int(_NUMBER.unpack(number)[0]) if len(number) == _NUMBER.size else -1


def look_inside(number: int) -> tuple[Inside, ...]:
    """The interfaces of a namespace. Raises OSError if it is gone."""
    target = _NUMBER.pack(number)
    with Rtnetlink() as netlink:
        netlink.be_strict()
        links = netlink.dump(RTM_GETLINK, link_question() + attribute(_IFLA_TARGET_NETNSID, target))
        addresses: dict[int, set[str]] = defaultdict(set)
        for family in (socket.AF_INET, socket.AF_INET6):
            question = _ADDRESS.pack(family, 0, 0, 0, 0) + attribute(_IFA_TARGET_NETNSID, target)
            for index, address in decode_addresses(netlink.dump(RTM_GETADDR, question)):
                addresses[index].add(address)
    return tuple(
        Inside(index=link.index, mac=link.mac, addresses=frozenset(addresses[link.index]))
        for link in decode_links(links)
    )


def decode_addresses(answer: bytes) -> list[tuple[int, str]]:
    """Interface and address, of each address of an answer."""
    found = []
    for kind, _, body in messages(answer):
        if kind != RTM_NEWADDR or len(body) < _ADDRESS.size:
            continue
        given = dict(attributes(body[_ADDRESS.size :]))
        # On a point-to-point link the other attribute is the far end's.
        packed = given.get(_IFA_LOCAL) or given.get(_IFA_ADDRESS, b"")
        if len(packed) in (4, 16):
            found.append((int(_ADDRESS.unpack_from(body)[4]), str(ip_address(packed))))
    return found
