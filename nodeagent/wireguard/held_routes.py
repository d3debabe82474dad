"""The routes and rules that there are, read without making objects of what is as it was.

In:   the kernel's answers about tables and rules
Out:  a table's routes; a digest of all that leads into tunnels
Shell over one netlink socket; `decode_routes` is pure.

A large cluster without `podCIDRs` has a route for each pod, and they are looked at every few seconds.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from errno import ENOENT
from hashlib import blake2b
from typing import Final, NamedTuple

from nodeagent.endpoints.routes import RTM_GETROUTE, RTM_NEWROUTE
from nodeagent.netlink import Rtnetlink, attribute, attributes, messages

FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
ELSEWHERE: Final = -1
METRIC: Final = 100
LAST_METRIC: Final = 4_000_000
UNREACHABLE: Final = 7
THROW: Final = 9
_DEVICES: Final = {UNREACHABLE: 0, THROW: ELSEWHERE}
_RTM_GETRULE: Final = 34
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 6, 7, 15
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_NUMBER: Final = struct.Struct("=I")


class Route(NamedTuple):
    """A tuple, as tens of thousands are compared. `cidr`, empty: everything; `device`, zero: unreachable,
    `ELSEWHERE`: as if the table had ended; `source`: what the node's own packets bear, empty: the kernel's
    choice; `foreign_metric`: of a route that stands beside ours, None: ours, or in its place."""

    cidr: str
    device: int
    source: str = ""
    foreign_metric: int | None = None


def read_table(family: int, table: int) -> set[Route]:
    """Its routes. Raises OSError."""
    with Rtnetlink() as netlink:
        netlink.be_strict()
        return set(decode_routes(_dump(netlink, family, table), table))


def glance(tables: Iterable[int]) -> bytes:
    """A digest of these tables and of all rules: another one means that something may have changed. Raises
    OSError."""
    digest = blake2b(digest_size=16)
    with Rtnetlink() as netlink:
        netlink.be_strict()
        for family in FAMILIES:
            for table in tables:
                _add(digest, _dump(netlink, family, table))
            _add(digest, netlink.dump(_RTM_GETRULE, _ROUTE.pack(family, *(0,) * 8)))
    return digest.digest()


def decode_routes(answer: bytes, table: int) -> Iterator[Route]:
    """The routes of one table in an answer: older kernels answer with more than was asked for."""
    for kind, _, body in messages(answer):
        if kind != RTM_NEWROUTE:
            continue
        family, bits, *_, route_type, _ = _ROUTE.unpack_from(body)
        told = dict(attributes(body[_ROUTE.size :]))
        if _number(told, _RTA_TABLE) != table:
            continue
        cidr = f"{socket.inet_ntop(family, told[_RTA_DST])}/{bits}" if bits else ""
        device = _DEVICES.get(route_type, _number(told, _RTA_OIF))
        metric = _number(told, _RTA_PRIORITY)
        source = told.get(_RTA_PREFSRC)
        yield Route(
            cidr,
            device,
            socket.inet_ntop(family, source) if source else "",
            None if metric == (METRIC if device else LAST_METRIC) else metric,
        )


def _dump(netlink: Rtnetlink, family: int, table: int) -> bytes:
    question = _ROUTE.pack(family, *(0,) * 8) + attribute(_RTA_TABLE, _NUMBER.pack(table))
    try:
        return netlink.dump(RTM_GETROUTE, question)
    except OSError as error:
        if error.errno == ENOENT:  # it was never used
            return b""
        raise


def _add(digest: blake2b, answer: bytes) -> None:
    """Without the headers: they bear the socket's number."""
    for kind, _, body in messages(answer):
        digest.update(kind.to_bytes(2))
        digest.update(body)


def _number(told: dict[int, bytes], kind: int) -> int:
    return int(_NUMBER.unpack(told[kind])[0]) if kind in told else 0
