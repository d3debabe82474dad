"""Keep the kernel told which pods of this node are handed packets directly.

In:   the endpoints that are placed, behind which interface each; whether it is wanted at all
Out:  the two maps of local ends
Shell over those maps and one netlink question.

Holds always:
1. Handed to directly is only who is under policy, whose MAC is known, by an address that no other pod here
   has.
2. What cannot be told to the kernel costs a detour, no connection: it is logged, and tried again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import Final

import structlog

from nodeagent.datapath import Datapath, DatapathError, LocalEnd
from nodeagent.endpoints.links import read_links
from nodeagent.plan.generation import LocalEndpoint

log = structlog.get_logger()

DIRECT_DELIVERY_FAILED: Final = "direct_delivery_failed"


class DirectDelivery:
    """Owns those maps. One caller at a time."""

    def __init__(self, datapath: Datapath, *, is_wanted: bool) -> None:
        self._datapath = datapath
        self._is_wanted = is_wanted
        self._followed: Mapping[int, LocalEndpoint] | None = None
        self.ends: Mapping[str, LocalEnd] = {}
        """What the kernel should hold."""

    def follow(self, placed: Mapping[int, LocalEndpoint]) -> None:
        """Hand to these, and to no others. Where it is not wanted, what an agent before this one told the
        kernel is taken back."""
        wanted = placed if self._is_wanted else {}
        if wanted == self._followed:
            return
        try:
            self.ends = local_ends(wanted, _pairs()) if wanted else {}
            self._datapath.set_local_ends(self.ends)
        except (DatapathError, OSError) as error:
            self._followed = None
            log.error(DIRECT_DELIVERY_FAILED, error=str(error))
        else:
            self._followed = dict(wanted)

    def restore(self) -> None:
        """Tell the kernel again. Raises DatapathError."""
        self._datapath.set_local_ends(self.ends)


def local_ends(placed: Mapping[int, LocalEndpoint], pairs: Set[int]) -> dict[str, LocalEnd]:
    """Address → where its packets go. `pairs`: interfaces whose other end is in another namespace."""
    known = {ifindex: endpoint for ifindex, endpoint in placed.items() if endpoint.mac}
    owners = Counter(address for endpoint in placed.values() for address in endpoint.addresses)
    return {
        address: LocalEnd(ifindex=ifindex, is_pair=ifindex in pairs)
        for ifindex, endpoint in known.items()
        for address in endpoint.addresses
        if owners[address] == 1
    }


def _pairs() -> frozenset[int]:
    return frozenset(link.index for link in read_links() if link.leads_elsewhere)
