"""What this node's own interfaces say: their addresses, and the room for a tunnel's packets.

In:   the node's addresses
Out:  HostSide
Shell over rtnetlink. Changes nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from pyroute2 import IPRoute

from netpolicy.errors import StalledError
from nodeagent.datapath.clsact import with_netlink
from nodeagent.host_settings import network_settings
from nodeagent.wireguard.peers import canonical
from nodeagent.wireguard.tunnels import DEVICE_PREFIX

USUAL_MTU: Final = 1500
OVERHEAD_V4: Final = 60
OVERHEAD_V6: Final = 80
LEAST_MTU: Final = 1280
"""Below that IPv6 does not work."""
LOOPBACK: Final = 1
STRICT_SOURCES: Final = "StrictReversePath"
_STRICT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSide:
    """`addresses` are the host's own, on whatever interface; `interfaces`: name → index."""

    addresses: frozenset[str]
    node_addresses: tuple[str, ...]
    interfaces: dict[str, int]
    underlay_mtu: int
    underlay: frozenset[int] = frozenset()
    """Indices of the interfaces that have an address of the node."""

    def is_underlay(self, name: str) -> bool:
        """True if other nodes are reached by it."""
        return self.interfaces[name] in self.underlay

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
            underlay=frozenset(own),
        )

    return with_netlink("reading this node's interfaces", ask)


def require_loose_sources(host: HostSide) -> None:
    """Raises StalledError if this node refuses packets that came another way than it would answer by.

    With node traffic the way to every node leads through a tunnel, and a tunnel's own packets do not.
    """
    whole = _reverse_path("all")
    for name in host.uplinks:
        with suppress(FileNotFoundError):  # it went meanwhile
            if max(whole, _reverse_path(name)) == _STRICT and host.is_underlay(name):
                raise StalledError(
                    f"net.ipv4.conf.{name}.rp_filter is 1: nodeEncryption would cut this node off; "
                    "set it to 2 or 0",
                    reason=STRICT_SOURCES,
                )


def _reverse_path(name: str) -> int:
    return int((network_settings() / "ipv4/conf" / name / "rp_filter").read_text())


def tunnel_mtu(underlay: int, *, over_ipv6: bool) -> int:
    """The longest packet that fits into a tunnel's: an outer IPv6 header is 20 bytes longer."""
    return max(underlay - (OVERHEAD_V6 if over_ipv6 else OVERHEAD_V4), LEAST_MTU)
