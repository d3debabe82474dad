"""The routing that leads packets into the tunnels that belong there, and nowhere else.

    rule 509   sent by the proxy             → table 51872: pods elsewhere      (where there is a proxy)
    rule 510   from a pod, translated since  → table 51872, likewise
    rule 511   marked by from_pod            → table 51871: per peer, else the default; else unreachable
    rule 512   a tunnel's own packets, and
               what agents and reconciler say → main                          (with node traffic only)
    rule 513   everything                    → table 51872: pods and nodes elsewhere   (likewise)

In:   Ways: the device of each address, and whose packets take it
Out:  rules and routes, only those that differ
Shell over rtnetlink, in the network namespace of the process. The CNI's tables are not touched.

Holds always:
1. A marked packet that no tunnel takes is refused: the last route of the table is `unreachable`, and
   stays when every device is gone.
2. A route is replaced in one step, and another device's routes are there before the device goes.
3. A node that has no tunnel yet, or no longer, reaches its reconciler: that is how it would get one.
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

from nodeagent.datapath.abi_numbers import (
    MARK_ENCRYPT,
    MARK_FROM_POD,
    MARK_MASK,
    MARK_PROXY_TO_CLIENT,
    MARK_PROXY_TO_WORLD,
)
from nodeagent.datapath.clsact import with_netlink
from nodeagent.datapath.errors import DatapathError
from nodeagent.wireguard.difference import FIREWALL_MARK
from nodeagent.wireguard.held_routes import (
    ELSEWHERE,
    FAMILIES,
    LAST_METRIC,
    METRIC,
    THROW,
    UNREACHABLE,
    Route,
    glance,
    read_table,
)

MARKED_TABLE: Final = 51871
NODES_TABLE: Final = 51872
PROXY_RULE: Final = 509
TRANSLATED_RULE: Final = 510
MARKED_RULE: Final = 511
BYPASS_RULE: Final = 512
NODES_RULE: Final = 513
_TABLES: Final = (MARKED_TABLE, NODES_TABLE)
_RULES: Final = (PROXY_RULE, TRANSLATED_RULE, MARKED_RULE, BYPASS_RULE, NODES_RULE)
_MAIN: Final = 254
_ANY_TYPE: Final = 0
_ANY_SCOPE: Final = 255
_UNICAST: Final = 1
_GONE: Final = (ENOENT, ESRCH, ENODEV)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """CIDR → index of the tunnel. `marked`: of pods elsewhere, for what their marks lead there; `all`: what
    is led there by its destination alone, if `node_traffic`, if the proxy sent it, or if a pod sent it to a
    service; `ELSEWHERE` there: by none of ours.

    `sources`: the addresses that the node itself speaks from; `outside`: TCP ports that never enter.
    """

    marked: Mapping[str, int]
    all: Mapping[str, int]
    node_traffic: bool = False
    has_proxy: bool = False
    sources: tuple[str, ...] = ()
    outside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule:
    priority: int
    table: int
    mark: int = 0
    """Zero: whatever the mark."""
    source_port: int = 0
    destination_port: int = 0
    """Of TCP; zero: any."""


class Routing:
    """Keeps ways as they should be. One caller at a time."""

    def __init__(self) -> None:
        self._ways: Ways | None = None
        self._seen = b""

    def keep(self, ways: Ways) -> int:
        """Have these and no others; return how many were otherwise. Where nothing changed since they were
        found right, that costs a glance."""
        try:
            seen = glance(_TABLES)
        except OSError as error:
            raise DatapathError("looking at the tunnels' routes", errno=error.errno or 0) from error
        if seen == self._seen and ways == self._ways:
            return 0
        changed = set_ways(ways)
        # Of the moment before: what changed since then is found by the next look.
        self._ways, self._seen = ways, b"" if changed else seen
        return changed


def set_ways(ways: Ways) -> int:
    """Have exactly these routes, and the rules that lead to them; return how many were otherwise."""

    def work(netlink: IPRoute) -> int:
        return sum(
            _set_table(netlink, family, MARKED_TABLE, _marked(ways.marked, family))
            + _set_table(netlink, family, NODES_TABLE, _explicit(ways.all, family, ways.sources))
            + _set_rules(netlink, family, _rules_of(ways))
            for family in FAMILIES
        )

    return with_netlink("routing into the tunnels", work)


def remove_ways() -> None:
    """Remove every rule and route of ours."""

    def work(netlink: IPRoute) -> None:
        for family in FAMILIES:
            _set_rules(netlink, family, ())
            for table in _TABLES:
                _set_table(netlink, family, table, set())

    with_netlink("removing the tunnels' routes", work)


def _marked(ways: Mapping[str, int], family: int) -> set[Route]:
    """A default through the device that most are behind, the rest one by one; and the last resort."""
    own = _explicit(ways, family)
    usual = Counter(ways.values()).most_common(1)
    routes = {Route("", 0)}
    if usual:
        device = usual[0][0]
        routes |= {Route("", device), *(route for route in own if route.device != device)}
    return routes


def _explicit(ways: Mapping[str, int], family: int, sources: Iterable[str] = ()) -> set[Route]:
    is_v6 = family == socket.AF_INET6
    source = next((address for address in sources if (":" in address) == is_v6), "")
    return {
        Route(cidr, device, "" if device == ELSEWHERE else source)
        for cidr, device in ways.items()
        if (":" in cidr) == is_v6
    }


def _rules_of(ways: Ways) -> tuple[_Rule, ...]:
    """In the order in which they may be added: what bypasses comes before what it bypasses."""
    rules = [
        _Rule(TRANSLATED_RULE, NODES_TABLE, mark=MARK_FROM_POD),
        _Rule(MARKED_RULE, MARKED_TABLE, mark=MARK_ENCRYPT),
    ]
    if ways.has_proxy:
        marks = (MARK_PROXY_TO_WORLD, MARK_PROXY_TO_CLIENT)
        rules += [_Rule(PROXY_RULE, NODES_TABLE, mark=mark) for mark in marks]
    if ways.node_traffic:
        rules.append(_Rule(BYPASS_RULE, _MAIN, mark=FIREWALL_MARK))
        rules += [_Rule(BYPASS_RULE, _MAIN, destination_port=port) for port in ways.outside]
        rules += [_Rule(BYPASS_RULE, _MAIN, source_port=port) for port in ways.outside]
        rules.append(_Rule(NODES_RULE, NODES_TABLE))
    return tuple(rules)


def _set_table(netlink: IPRoute, family: int, table: int, wanted: set[Route]) -> int:
    held = read_table(family, table)
    for route in sorted(wanted - held, key=lambda route: (route.device == 0, route.cidr)):
        netlink.route("replace", **_fields(route, family, table))
    # A route that was replaced is gone already: only what no wanted one stands in for is deleted.
    kept = {(route.cidr, route.device == 0) for route in wanted}
    for route in held - wanted:
        if route.foreign_metric is not None or (route.cidr, route.device == 0) not in kept:
            _delete_route(netlink, _fields(route, family, table))
    return len(held ^ wanted)


def _fields(route: Route, family: int, table: int) -> dict[str, Any]:
    everything = "::/0" if family == socket.AF_INET6 else "0.0.0.0/0"
    fields = {"family": family, "table": table, "dst": route.cidr or everything}
    if route.foreign_metric is not None:
        fields |= {"type": _ANY_TYPE, "scope": _ANY_SCOPE, "priority": route.foreign_metric}
        return fields | ({"oif": route.device} if route.device > 0 else {})
    if route.device == ELSEWHERE:
        return fields | {"type": THROW, "priority": METRIC}
    if route.device:
        fields |= {"oif": route.device, "type": _UNICAST, "priority": METRIC, "scope": 0}
        return fields | ({"prefsrc": route.source} if route.source else {})
    return fields | {"type": UNREACHABLE, "priority": LAST_METRIC}


def _delete_route(netlink: IPRoute, fields: dict[str, Any]) -> None:
    try:
        netlink.route("del", **fields)
    except NetlinkError as error:
        if error.code not in _GONE:
            raise


def _set_rules(netlink: IPRoute, family: int, wanted: tuple[_Rule, ...]) -> int:
    held = _held_rules(netlink, family)
    for rule in wanted:
        if rule not in held:
            _change(netlink, "add", family, rule, unless=EEXIST)
    # Last first: what bypasses another rule outlives it.
    for rule in sorted(held - set(wanted), key=lambda rule: -rule.priority):
        _change(netlink, "del", family, rule, unless=ENOENT)
    return len(held ^ set(wanted))


def _change(netlink: IPRoute, verb: str, family: int, rule: _Rule, *, unless: int) -> None:
    fields: dict[str, Any] = {"family": family, "priority": rule.priority, "table": rule.table}
    if rule.mark:
        fields |= {"fwmark": rule.mark, "fwmask": MARK_MASK}
    if rule.source_port or rule.destination_port:
        fields["ip_proto"] = socket.IPPROTO_TCP
    if rule.source_port:
        fields["sport_range"] = _one_port(rule.source_port)
    if rule.destination_port:
        fields["dport_range"] = _one_port(rule.destination_port)
    try:
        netlink.rule(verb, **fields)
    except NetlinkError as error:
        if error.code != unless:
            raise


def _one_port(port: int) -> str:
    return f"{port}:{port}"


def _held_rules(netlink: IPRoute, family: int) -> set[_Rule]:
    """The rules of our priorities; somebody else's there is left alone."""
    found = set()
    for message in netlink.get_rules(family=family):
        told: dict[str, Any] = dict(message["attrs"])
        table = told.get("FRA_TABLE", 0)
        if told.get("FRA_PRIORITY") in _RULES and table in (*_TABLES, _MAIN):
            found.add(
                _Rule(
                    told["FRA_PRIORITY"],
                    table,
                    mark=told.get("FRA_FWMARK", 0),
                    source_port=_first_port(told.get("FRA_SPORT_RANGE")),
                    destination_port=_first_port(told.get("FRA_DPORT_RANGE")),
                )
            )
    return found


def _first_port(ports: str | None) -> int:
    return int(ports.partition(":")[0]) if ports else 0
