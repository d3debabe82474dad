"""What this node's own interfaces say: their addresses, and the room for a tunnel's packets.

In:   the node's addresses
Out:  HostSide
Shell over rtnetlink. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from pyroute2 import IPRoute

from nodeagent.datapath.clsact import with_netlink
from nodeagent.wireguard.peers import canonical
from nodeagent.wireguard.tunnels import DEVICE_PREFIX

USUAL_MTU: Final = 1500
OVERHEAD_V4: Final = 60
OVERHEAD_V6: Final = 80
LEAST_MTU: Final = 1280
"""Below that IPv6 does not work."""
LOOPBACK: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSide:
    """`addresses` are the host's own, on whatever interface; `interfaces`: name → index."""

    addresses: frozenset[str]
    node_addresses: tuple[str, ...]
    interfaces: dict[str, int]
    underlay_mtu: int

    @property
    def uplinks(self) -> dict[str, int]:
        """What packets may leave the node by: everything but the loopback and the tunnels."""
        return {
            name: index
            for name, index in self.interfaces.items()
            if index != LOOPBACK and not name.startswith(DEVICE_PREFIX)
        }


def read_host(node_addresses: tuple[str, ...]) -> HostSide:
    """Read it now."""

    def ask(netlink: IPRoute) -> HostSide:
        links = {link["index"]: link for link in netlink.get_links()}
        found: dict[str, int] = {}
        for address in netlink.get_addr():
            if links[address["index"]].get_attr("IFLA_IFNAME").startswith(DEVICE_PREFIX):
                continue
            text = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
            if text is not None and not ip_address(text).is_link_local:
                found[canonical(text)] = address["index"]
        own = {found[a] for a in map(canonical, node_addresses) if a in found}
        mtus = [links[index].get_attr("IFLA_MTU") for index in own if index in links]
        return HostSide(
            addresses=frozenset(found),
            node_addresses=node_addresses,
            interfaces={link.get_attr("IFLA_IFNAME"): index for index, link in links.items()},
            underlay_mtu=min(mtus, default=USUAL_MTU),
        )

    return with_netlink("reading this node's interfaces", ask)


def tunnel_mtu(underlay: int, *, over_ipv6: bool) -> int:
    """The longest packet that fits into a tunnel's: an outer IPv6 header is 20 bytes longer."""
    return max(underlay - (OVERHEAD_V6 if over_ipv6 else OVERHEAD_V4), LEAST_MTU)
