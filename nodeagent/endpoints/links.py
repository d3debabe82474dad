"""List the network interfaces of this node's namespace, and which of them lead out of it.

In:   the kernel's answer to RTM_GETLINK
Out:  Link values
Shell over one netlink question; `decode_links` is pure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from nodeagent.netlink import Rtnetlink, attributes, messages, text

RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_LINK: Final = 5
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_IFLA_LINK_NETNSID: Final = 37
_POD_KINDS: Final = frozenset({"veth", "netkit"})
_LINK: Final = struct.Struct("=BxHiII")
_NUMBER: Final = struct.Struct("=i")
_MAC_BYTES: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface. `leads_elsewhere`: one end of a pair whose other end is in another namespace: the one
    that this namespace numbers `peer_netns`, where it is `peer_index`.
    """

    name: str
    index: int
    mac: str = ""
    leads_elsewhere: bool = False
    peer_netns: int = -1
    peer_index: int = 0


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
    """Every interface of the namespace."""
    with Rtnetlink() as netlink:
        return decode_links(netlink.dump(RTM_GETLINK, link_question()))


def link_question() -> bytes:
    """The fixed part of a question for all links."""
    return _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def decode_links(answer: bytes) -> tuple[Link, ...]:
    """The links of an answer."""
    return tuple(_link(body) for kind, _, body in messages(answer) if kind == RTM_NEWLINK)


def _link(body: bytes) -> Link:
    index = _LINK.unpack_from(body)[2]
    found = dict(attributes(body[_LINK.size :]))
    kind = dict(attributes(found.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_KIND, b"")
    mac = found.get(_IFLA_ADDRESS, b"")
    return Link(
        name=text(found.get(_IFLA_IFNAME, b"")),
        index=index,
        mac=mac.hex(":") if len(mac) == _MAC_BYTES and any(mac) else "",
        leads_elsewhere=text(kind) in _POD_KINDS and _IFLA_LINK_NETNSID in found,
        peer_netns=_number(found, _IFLA_LINK_NETNSID, -1),
        peer_index=_number(found, _IFLA_LINK, 0),
    )


def _number(found: Mapping[int, bytes], kind: int, missing: int) -> int:
    content = found.get(kind, b"")
    return int(_NUMBER.unpack(content)[0]) if len(content) == _NUMBER.size else missing
