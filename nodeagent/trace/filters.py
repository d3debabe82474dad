"""Which packets a trace asks for.

In:   what a person typed, resolved to networks
Out:  DropFilter
Pure.

Holds always:
1. None means "any"; an empty tuple of networks matches nothing, never everything.
2. IPv4 is compared in its mapped form (::ffff:a.b.c.d), as in the datapath.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from netpolicy.rules import Protocol

MAX_NETWORKS: Final = 64
"""Each network is two comparisons in the kernel's program: bounded for the verifier's sake."""

_MAPPED_BITS: Final = 96
_MAPPED_PREFIX: Final = 0xFFFF << 32

Networks = tuple[IPv6Network, ...]


class View(StrEnum):
    """What a trace shows of the packets: their drops, their way, or who sends them."""

    DROPS = "drops"
    PATH = "path"
    PROCESSES = "processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFilter:
    """One end is a pod's, the other a peer's, either port is `port`; None asks nothing."""

    pod: Networks | None = None
    peer: Networks | None = None
    port: int | None = None
    protocol: Protocol | None = None

    @property
    def asks_anything(self) -> bool:
        """False if every drop of the node is meant, packets that are not IP included."""
        asked = (self.pod, self.peer, self.port, self.protocol)
        return any(part is not None for part in asked)

    def matches(self, source: str, destination: str, ports: tuple[int, int], protocol: int) -> bool:
        """What the kernel's program asks of a packet, asked of a flow."""
        there = _within(source, self.pod) and _within(destination, self.peer)
        back = _within(destination, self.pod) and _within(source, self.peer)
        return (
            (there or back)
            and (self.port is None or self.port in ports)
            and (self.protocol is None or self.protocol == protocol)
        )


def networks(texts: Iterable[str]) -> Networks:
    """Addresses or CIDR blocks, in mapped form, without repeats.

    Raises ValueError for a text that is neither, and for more than MAX_NETWORKS.
    """
    found = tuple(dict.fromkeys(_mapped(ip_network(text, strict=False)) for text in texts))
    if len(found) > MAX_NETWORKS:
        raise ValueError(
            f"{len(found)} addresses are too many for one trace: {MAX_NETWORKS} at most"
        )
    return found


def _within(address: str, allowed: Networks | None) -> bool:
    if allowed is None:
        return True
    (own,) = networks([address])
    return any(own.subnet_of(network) for network in allowed)


def _mapped(network: IPv4Network | IPv6Network) -> IPv6Network:
    if isinstance(network, IPv6Network):
        return network
    address = IPv6Address(_MAPPED_PREFIX | int(network.network_address))
    return IPv6Network((address, _MAPPED_BITS + network.prefixlen))
