"""The routing that leads marked packets into the tunnels, and nowhere else.

    rule 511   marked by from_pod            → table 51871: per peer, else the default; else unreachable
    rule 512   a tunnel's own packets        → main                          (with node traffic only)
    rule 513   everything                    → table 51872: pods and nodes elsewhere   (likewise)

In:   the device of each block of addresses
Out:  rules and routes, only those that differ
Shell over rtnetlink, in the network namespace of the process. The CNI's tables are not touched.

Holds always:
1. A marked packet that no tunnel takes is refused: the last route of the table is `unreachable`, and
   stays when every device is gone.
2. A route is replaced in one step, and another device's routes are there before the device goes.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from errno import EEXIST, ENODEV, ENOENT, ESRCH
from typing import Any, Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from nodeagent.datapath.abi import MARK_ENCRYPT, MARK_MASK
from nodeagent.datapath.clsact import with_netlink
from nodeagent.wireguard.difference import FIREWALL_MARK

MARKED_TABLE: Final = 51871
NODES_TABLE: Final = 51872
MARKED_RULE: Final = 511
BYPASS_RULE: Final = 512
NODES_RULE: Final = 513
_TABLES: Final = (MARKED_TABLE, NODES_TABLE)
_RULES: Final = (MARKED_RULE, BYPASS_RULE, NODES_RULE)
_MAIN: Final = 254
_METRIC: Final = 100
_LAST_METRIC: Final = 4_000_000
_UNREACHABLE: Final = 7
_UNICAST: Final = 1
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_GONE: Final = (ENOENT, ESRCH, ENODEV)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """CIDR → index of the tunnel. `marked`: of pods elsewhere; `nodes`: what the node itself sends, too."""

    marked: Mapping[str, int]
    nodes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Route:
    cidr: str
    """Empty: everything."""
    device: int
    """Zero: unreachable."""


def set_ways(ways: Ways) -> None:
    """Have exactly these routes, and the rules that lead to them."""

    def work(netlink: IPRoute) -> None:
        for family in _FAMILIES:
            _set_table(netlink, family, MARKED_TABLE, _marked(ways.marked, family))
            _set_table(netlink, family, NODES_TABLE, _explicit(ways.nodes, family))
            _add_rule(netlink, family, MARKED_RULE, MARKED_TABLE, mark=MARK_ENCRYPT)
            if ways.nodes:
                _add_rule(netlink, family, BYPASS_RULE, _MAIN, mark=FIREWALL_MARK)
                _add_rule(netlink, family, NODES_RULE, NODES_TABLE)
            else:
                _delete_rules(netlink, family, (NODES_RULE, BYPASS_RULE))

    with_netlink("routing into the tunnels", work)


def remove_ways() -> None:
    """Remove every rule and route of ours."""

    def work(netlink: IPRoute) -> None:
        for family in _FAMILIES:
            _delete_rules(netlink, family, _RULES)
            for table in _TABLES:
                _set_table(netlink, family, table, set())

    with_netlink("removing the tunnels' routes", work)


def _marked(ways: Mapping[str, int], family: int) -> set[_Route]:
    """A default through the device that most are behind, the rest one by one; and the last resort."""
    own = _explicit(ways, family)
    usual = Counter(ways.values()).most_common(1)
    routes = {_Route("", 0)}
    if usual:
        device = usual[0][0]
        routes |= {_Route("", device), *(route for route in own if route.device != device)}
    return routes


def _explicit(ways: Mapping[str, int], family: int) -> set[_Route]:
    is_v6 = family == socket.AF_INET6
    return {_Route(cidr, device) for cidr, device in ways.items() if (":" in cidr) == is_v6}


def _set_table(netlink: IPRoute, family: int, table: int, wanted: set[_Route]) -> None:
    held = _held(netlink, family, table)
    for route in sorted(wanted - held, key=lambda route: (route.device == 0, route.cidr)):
        netlink.route("replace", **_fields(route, family, table))
    # A route that was replaced is gone already: only what no wanted one stands in for is deleted.
    kept = {(route.cidr, route.device == 0) for route in wanted}
    for route in held - wanted:
        if (route.cidr, route.device == 0) not in kept:
            _delete_route(netlink, _fields(route, family, table))


def _held(netlink: IPRoute, family: int, table: int) -> set[_Route]:
    found = set()
    for message in netlink.get_routes(family=family, table=table):
        told: dict[str, Any] = dict(message["attrs"])
        length = message["dst_len"]
        cidr = f"{told['RTA_DST']}/{length}" if told.get("RTA_DST") and length else ""
        device = 0 if message["type"] == _UNREACHABLE else told.get("RTA_OIF", 0)
        found.add(_Route(cidr, device))
    return found


def _fields(route: _Route, family: int, table: int) -> dict[str, Any]:
    everything = "::/0" if family == socket.AF_INET6 else "0.0.0.0/0"
    fields = {"family": family, "table": table, "dst": route.cidr or everything}
    if route.device:
        return fields | {"oif": route.device, "type": _UNICAST, "priority": _METRIC, "scope": 0}
    return fields | {"type": _UNREACHABLE, "priority": _LAST_METRIC}


def _delete_route(netlink: IPRoute, fields: dict[str, Any]) -> None:
    try:
        netlink.route("del", **fields)
    except NetlinkError as error:
        if error.code not in _GONE:
            raise


def _add_rule(netlink: IPRoute, family: int, priority: int, table: int, *, mark: int = 0) -> None:
    marked = {"fwmark": mark, "fwmask": MARK_MASK} if mark else {}
    if _rules(netlink, family, (priority,)):
        return
    try:
        netlink.rule("add", family=family, priority=priority, table=table, **marked)
    except NetlinkError as error:
        if error.code != EEXIST:
            raise


def _delete_rules(netlink: IPRoute, family: int, priorities: Iterable[int]) -> None:
    for rule in _rules(netlink, family, priorities):
        priority = rule.get_attr("FRA_PRIORITY")
        try:
            netlink.rule("del", family=family, priority=priority)
        except NetlinkError as error:
            if error.code not in _GONE:
                raise


def _rules(netlink: IPRoute, family: int, priorities: Iterable[int]) -> list[Any]:
    wanted = tuple(priorities)
    return [
        rule
        for rule in netlink.get_rules(family=family)
        if rule.get_attr("FRA_PRIORITY") in wanted
        and rule.get_attr("FRA_TABLE") in (*_TABLES, _MAIN)
    ]
