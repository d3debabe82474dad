"""List the network interfaces of this node's namespace, and which of them lead out of it.

In:   the kernel's answer to RTM_GETLINK
Out:  Link values
Shell over one netlink question; `decode_links` is pure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from nodeagent.netlink import Rtnetlink, attributes, messages, text

RTM_NEWLINK: Final = 16
RTM_GETLINK: Final = 18
_IFLA_IFNAME: Final = 3
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_IFLA_LINK_NETNSID: Final = 37
_POD_KINDS: Final = frozenset({"veth", "netkit"})
_LINK: Final = struct.Struct("=BxHiII")


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
    """Every interface of the namespace."""
    with Rtnetlink() as netlink:
        return decode_links(netlink.dump(RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)))


def decode_links(answer: bytes) -> tuple[Link, ...]:
    """The links of an answer."""
    return tuple(_link(body) for kind, _, body in messages(answer) if kind == RTM_NEWLINK)


def _link(body: bytes) -> Link:
    index = _LINK.unpack_from(body)[2]
    found = dict(attributes(body[_LINK.size :]))
    kind = dict(attributes(found.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_KIND, b"")
    return Link(
        name=text(found.get(_IFLA_IFNAME, b"")),
        index=index,
        leads_elsewhere=text(kind) in _POD_KINDS and _IFLA_LINK_NETNSID in found,
    )
