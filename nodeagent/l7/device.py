"""The device through which redirected packets reach the proxy, and the routing behind it.

    program on a pod's interface ──▶ tgproxy0 ──▶ rule 510: marked ──▶ table 51870: all of it is local

In:   nothing
Out:  an interface that is up, rules, routes and settings; or none of them
Shell over rtnetlink and /proc/sys, in the network namespace of the process. No packet filter is touched.

Why a device: a socket that a program assigns to a packet is lost where the packet crosses a bridge. Why
early demultiplexing is off: it takes a packet that comes for one of the proxy's sockets, which bear pods'
addresses, for the host's own, and forwarding then drops it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from errno import EEXIST, ENODEV, ENOENT, ESRCH
from pathlib import Path
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netpolicy.errors import StalledError
from nodeagent.datapath.abi_numbers import MARK_MASK, MARK_REDIRECTED
from nodeagent.datapath.clsact import with_netlink
from nodeagent.host_settings import network_settings

DEVICE: Final = "tgproxy0"
PEER: Final = "tgproxy1"
ADDRESS: Final = "169.254.78.1"
"""A loose reverse-path filter drops everything on a device without an address."""
TABLE: Final = 51870
RULE: Final = 510
STRICT_SOURCES: Final = "StrictReversePath"

_MTU: Final = 65_535
_LOOPBACK: Final = 1
_LOCAL: Final = 2
_HOST_SCOPE: Final = 254
_LINK_SCOPE: Final = 253
_FAMILIES: Final = {socket.AF_INET: "0.0.0.0/0", socket.AF_INET6: "::/0"}
_GONE: Final = (ENOENT, ESRCH, ENODEV)
_DEMUX: Final = "ipv4/tcp_early_demux"
_STRICT: Final = "ipv4/conf/all/rp_filter"
_REMEMBERED: Final = "tcp_early_demux was "


def ensure_device() -> int:
    """Have the device, up, with the routing behind it; return its index. Changes what differs only.

    Raises StalledError on a node that checks sources strictly everywhere.
    """
    if (network_settings() / _STRICT).read_text().strip() == "1":
        raise StalledError(
            "net.ipv4.conf.all.rp_filter is 1: no packet that is redirected to the proxy would pass; "
            "set it to 2 or 0",
            reason=STRICT_SOURCES,
        )
    index = with_netlink(f"making {DEVICE}", _ensure_link)
    for path, value in _settings().items():
        if path.read_text().strip() != value:
            path.write_text(value)
    with_netlink("routing redirected packets", _ensure_routing)
    return index


def remove_device() -> None:
    """Take the device away, with its rules and routes; early demultiplexing is as it was before it."""

    def work(netlink: IPRoute) -> None:
        for family, everything in _FAMILIES.items():
            for _ in _rules(netlink, family):
                _tolerate(_GONE, netlink.rule, "del", family=family, priority=RULE)
            _tolerate(_GONE, netlink.route, "del", **_route(family, everything))
        found = _find(netlink, DEVICE)
        if found is not None:
            before = str(found.get_attr("IFLA_IFALIAS") or "")
            if before.startswith(_REMEMBERED):
                (network_settings() / _DEMUX).write_text(before.removeprefix(_REMEMBERED))
            _tolerate(_GONE, netlink.link, "del", index=found["index"])

    with_netlink(f"removing {DEVICE}", work)


def device_faults() -> tuple[str, ...]:
    """What is not as `ensure_device` leaves it, in words."""

    def read(netlink: IPRoute) -> tuple[str, ...]:
        if _find(netlink, DEVICE) is None:
            return (f"{DEVICE} is gone",)
        found = [
            f"{path} is not {value}"
            for path, value in _settings().items()
            if path.read_text().strip() != value
        ]
        for family in _FAMILIES:
            if not _rules(netlink, family):
                found.append(f"rule {RULE} ({family.name}) is gone")
            if not netlink.get_routes(family=family, table=TABLE):
                found.append(f"the route of table {TABLE} ({family.name}) is gone")
        return tuple(found)

    return with_netlink(f"reading {DEVICE}", read)


def _settings() -> Mapping[Path, str]:
    root = network_settings()
    own = root / f"ipv4/conf/{DEVICE}"
    return {own / "rp_filter": "0", own / "accept_local": "1", root / _DEMUX: "0"}


def _ensure_link(netlink: IPRoute) -> int:
    found = _find(netlink, DEVICE)
    if found is None:
        netlink.link("add", ifname=DEVICE, kind="veth", peer=PEER)
        found = _find(netlink, DEVICE)
        peer = _find(netlink, PEER)
        if found is None or peer is None:
            raise OSError(ENODEV, f"{DEVICE} went as soon as it was made")
        before = _REMEMBERED + (network_settings() / _DEMUX).read_text().strip()
        netlink.link("set", index=found["index"], mtu=_MTU, ifalias=before)
        netlink.link("set", index=peer["index"], mtu=_MTU, state="up")
    index = int(found["index"])
    netlink.link("set", index=index, state="up")
    netlink.addr("replace", index=index, address=ADDRESS, prefixlen=32, scope=_LINK_SCOPE)
    return index


def _ensure_routing(netlink: IPRoute) -> None:
    for family, everything in _FAMILIES.items():
        netlink.route("replace", **_route(family, everything))
        if not _rules(netlink, family):
            _tolerate(
                (EEXIST,), netlink.rule, "add", family=family, priority=RULE, table=TABLE,
                fwmark=MARK_REDIRECTED, fwmask=MARK_MASK,
            )  # fmt: skip


def _route(family: int, everything: str) -> dict[str, Any]:
    return {
        "family": family,
        "table": TABLE,
        "dst": everything,
        "oif": _LOOPBACK,
        "type": _LOCAL,
        "scope": _HOST_SCOPE if family == socket.AF_INET else 0,
    }


def _rules(netlink: IPRoute, family: int) -> list[Any]:
    return [
        rule
        for rule in netlink.get_rules(family=family)
        if rule.get_attr("FRA_PRIORITY") == RULE and rule.get_attr("FRA_TABLE") == TABLE
    ]


def _find(netlink: IPRoute, name: str) -> Any | None:
    return next(
        (link for link in netlink.get_links() if link.get_attr("IFLA_IFNAME") == name), None
    )


def _tolerate(errors: tuple[int, ...], call: Any, *words: str, **fields: Any) -> None:
    try:
        call(*words, **fields)
    except NetlinkError as error:
        if error.code not in errors:
            raise
