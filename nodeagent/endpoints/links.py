"""List the network interfaces of this node's namespace, and which of them lead out of it.

In:   the kernel's answer to RTM_GETLINK
Out:  Link values
Shell over one netlink question; `decode_links` is pure.

A list of a thousand interfaces must be read within the time a pod needs to speak: hence not by
pyroute2, which makes an object of every attribute.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
_REQUEST_DUMP: Final = 0x301
_DUMP_INTERRUPTED: Final = 0x10
_IFLA_IFNAME: Final = 3
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_IFLA_LINK_NETNSID: Final = 37
_TYPE_MASK: Final = 0x3FFF
_POD_KINDS: Final = frozenset({"veth", "netkit"})
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_READ_BYTES: Final = 65_536
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface. `leads_elsewhere`: one end of a pair whose other end is in another namespace."""

    name: str
    index: int
    leads_elsewhere: bool = False


def pod_like(links: Iterable[Link], patterns: Iterable[str]) -> dict[str, int]:
    """Name → index of the interfaces that are taken for pods', whether any pod is listed or not.

    A pattern alone catches neither uplinks nor bridges nor a pair with both ends on the node.
    """
    wanted = tuple(patterns)
    return {
        link.name: link.index
        for link in links
        if link.leads_elsewhere and any(fnmatchcase(link.name, pattern) for pattern in wanted)
    }


def read_links() -> tuple[Link, ...]:
    """Every interface of the namespace; asked again if the list changed while it was read."""
    for _ in range(_ATTEMPTS):
        answer = _ask()
        if not any(flags & _DUMP_INTERRUPTED for _, flags, _ in _messages(answer)):
            break
    return decode_links(answer)


def decode_links(answer: bytes) -> tuple[Link, ...]:
    """The links of an answer."""
    return tuple(_link(body) for kind, _, body in _messages(answer) if kind == RTM_NEWLINK)


def _ask() -> bytes:
    question = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    size = _HEADER.size + len(question)
    answer = bytearray()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(_HEADER.pack(size, RTM_GETLINK, _REQUEST_DUMP, 1, 0) + question)
        while True:
            part = netlink.recv(_READ_BYTES)
            answer += part
            kinds = [kind for kind, _, _ in _messages(part)]
            if NLMSG_ERROR in kinds:
                raise OSError("the kernel refused to list the interfaces")
            if NLMSG_DONE in kinds or not kinds:
                return bytes(answer)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message."""
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, flags, *_ = _HEADER.unpack_from(data, start)
        if length < _HEADER.size:
            return
        yield kind, flags, data[start + _HEADER.size : start + length]
        start += (length + 3) & ~3


def _link(body: bytes) -> Link:
    index = _LINK.unpack_from(body)[2]
    found = dict(_attributes(body[_LINK.size :]))
    kind = dict(_attributes(found.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_KIND, b"")
    return Link(
        name=_text(found.get(_IFLA_IFNAME, b"")),
        index=index,
        leads_elsewhere=_text(kind) in _POD_KINDS and _IFLA_LINK_NETNSID in found,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[start + _ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="surrogateescape")
