"""Which interface of the node leads to a pod.

In:   the node's links, what is inside the namespaces they lead to, the node's routes; the pod's addresses
Out:  HostSide, or None where that is not certain
Pure.

Three ways to know, from the one that only the node's administrator can falsify to the one that a pod
with rights over its own network could:

1. The pod's namespace, as the container runtime names it: the pair whose far end bears the pod's address.
2. The node's own route to the address (routed CNIs).
3. The far ends of all pairs: the only one that bears the address.

Holds always:
1. An interface is a pod's only if it leads out of the node: never a bridge, an uplink or a tunnel.
2. What more than one interface could be, none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nodeagent.endpoints.links import Link
from nodeagent.endpoints.pod_netns import Inside

LookInside = Callable[[int], tuple[Inside, ...]]
"""What a namespace holds, by its number; nothing if it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSide:
    """The node's end of a pod's cable, and the MAC of the pod's end."""

    link: Link
    mac: str


def by_namespace(
    links: Iterable[Link], number: int, inside: LookInside, addresses: Iterable[str]
) -> HostSide | None:
    """The pair that ends in this namespace, at the interface that bears an address of the pod."""
    candidates = (link for link in links if link.leads_elsewhere and link.peer_netns == number)
    return _only(_bearers(candidates, inside, addresses))


def by_route(
    links: Iterable[Link], routes: Mapping[str, int], inside: LookInside, addresses: Iterable[str]
) -> HostSide | None:
    """The pair that the node's routes to the pod's addresses name; an address without one says nothing."""
    named = {routes[address] for address in addresses if address in routes}
    found = [link for link in links if link.leads_elsewhere and link.index in named]
    if len(named) != 1 or len(found) != 1:
        return None
    (link,) = found
    far = next((one for one in inside(link.peer_netns) if one.index == link.peer_index), None)
    return HostSide(link=link, mac=far.mac if far else "")


def by_claim(
    links: Iterable[Link], inside: LookInside, addresses: Iterable[str]
) -> HostSide | None:
    """The only pair whose far end bears an address of the pod."""
    candidates = (link for link in links if link.leads_elsewhere)
    return _only(_bearers(candidates, inside, addresses))


def _bearers(
    links: Iterable[Link], inside: LookInside, addresses: Iterable[str]
) -> Iterable[HostSide]:
    wanted = frozenset(addresses)
    for link in links:
        for far in inside(link.peer_netns):
            if far.index == link.peer_index and wanted & far.addresses:
                yield HostSide(link=link, mac=far.mac)


def _only(found: Iterable[HostSide]) -> HostSide | None:
    several = list(found)
    return several[0] if len(several) == 1 else None
