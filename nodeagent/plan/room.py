"""What to do with addresses that the kernel's maps have no room for.

In:   AddressPlan, what the maps hold at most, which addresses go first
Out:  an AddressPlan that fits
Pure.

Holds always:
1. An address without room is refused by name: left out, it would pass for the block around it, or the world.
2. Equal plans leave out the same addresses; the node's own and its pods' are the last to go.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from netpolicy.errors import StalledError
from nodeagent.plan.generation import AddressPlan

IDENTITY_NO_ROOM: Final = 0xFFFF_FFFF
"""No label set has this number, so no generation has a class for it; the datapath has a reason."""

NO_ROOM: Final = "NoRoom"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRoom:
    """How many addresses, and how many prefixes, one plan may have."""

    addresses: int
    prefixes: int


def fit(plan: AddressPlan, room: AddressRoom, *, first: Set[str]) -> AddressPlan:
    """The plan, with addresses beyond the room turned into prefixes that are refused.

    Raises StalledError if not even these have room.
    """
    if len(plan.exact) <= room.addresses and len(plan.prefixes) <= room.prefixes:
        return plan
    order = sorted(plan.exact, key=lambda address: (address not in first, address))
    kept, left_out = order[: room.addresses], order[room.addresses :]
    refused = {f"{a}/{ip_address(a).max_prefixlen}": IDENTITY_NO_ROOM for a in left_out}
    prefixes = {**plan.prefixes, **refused}
    if len(prefixes) > room.prefixes:
        raise StalledError(
            f"{len(plan.exact)} addresses and {len(plan.prefixes)} prefixes are more than the "
            f"maps hold ({room.addresses} and {room.prefixes}): raise datapath.max_addresses or "
            "datapath.max_prefixes",
            reason=NO_ROOM,
        )
    exact = {address: plan.exact[address] for address in sorted(kept)}
    return AddressPlan(exact=exact, prefixes=dict(sorted(prefixes.items())))


def without_room(plan: AddressPlan) -> int:
    """How many addresses are refused because there is no room for them."""
    return sum(identity == IDENTITY_NO_ROOM for identity in plan.prefixes.values())
