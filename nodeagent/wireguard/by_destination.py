"""Which destinations lead into a tunnel when no mark names them: few routes for many pods.

In:   CIDR → tunnel of each pod elsewhere, the place of each address or block
Out:  CIDR → tunnel, or None for what a wider CIDR must not take along
Pure.

What a pod sends to a service's address is translated after it left the pod, so only its new destination
tells where it goes. A route for each pod of a large cluster would be read and compared for seconds.

Holds always:
1. Of every address whose place is known, the longest CIDR here says what its place says.
2. An address of a block that nobody is known to have leads into a tunnel, where it ends: blocks are of
   strict mode, which would refuse it anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_network

from nodeagent.plan.places import Place


def by_destination(
    tunnels: Mapping[str, int], places: Mapping[str, Place]
) -> dict[str, int | None]:
    """What the routes are."""
    usual = Counter(tunnels.values()).most_common(1)
    if not usual:
        return {}
    device = usual[0][0]
    blocks = tuple(cidr for cidr, place in places.items() if _is_block(cidr, place))
    found: dict[str, int | None] = dict.fromkeys(blocks, device)
    found |= {
        cidr: through
        for cidr, through in tunnels.items()
        if through != device or not _is_within(cidr, blocks)
    }
    found |= {
        cidr: None
        for cidr, place in places.items()
        if place in (Place.HERE, Place.NO_POD, Place.SERVICE, Place.NODE)
        and _is_within(cidr, blocks)
    }
    return found


def _is_block(cidr: str, place: Place) -> bool:
    return place is Place.UNREACHABLE and not cidr.endswith("/128" if ":" in cidr else "/32")


@lru_cache(maxsize=1 << 18)
def _is_within(cidr: str, blocks: tuple[str, ...]) -> bool:
    network = ip_network(cidr)
    return any(
        network.version == block.version and network.subnet_of(block)  # type: ignore[arg-type]
        for block in map(ip_network, blocks)
    )
