"""Who stands behind an address, and which addresses a name has.

In:   address entries; the files they are kept in
Out:  Names
Pure, but for `read_names`, which reads the inventory file and the saved feed: no agent is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry, address_entries
from netpolicy.inventory_file import decode_inventory
from nodeagent.saved_feed import load_feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """`NAMESPACE/POD`, or a node's name, for each address that has one."""

    by_address: Mapping[str, str]

    def addresses_of(self, text: str) -> tuple[str, ...]:
        """An address itself, or those of a name. Raises StalledError for a name that has none."""
        try:
            return (str(ip_address(text)),)
        except ValueError:
            found = tuple(address for address, name in self.by_address.items() if name == text)
        if not found:
            raise StalledError(
                f'"{text}" is no address, and no pod (NAMESPACE/NAME) or node that this node knows'
            )
        return found

    def name_of(self, address: str) -> str:
        """The name behind an address, or none."""
        return self.by_address.get(address, "")


def names_of(entries: Iterable[AddressEntry]) -> Names:
    """Of two entries with one address the later one stands."""
    return Names(
        by_address={
            str(ip_address(entry.address)): f"{entry.namespace}/{entry.name}".lstrip("/")
            for entry in entries
            if entry.name
        }
    )


def pair_of(
    sources: Iterable[str], destinations: Iterable[str], *, version: int
) -> tuple[str, str] | None:
    """The first address of this IP version at each end; None if one end has none."""
    pair = [
        next((address for address in end if ip_address(address).version == version), None)
        for end in (sources, destinations)
    ]
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def read_names(inventory_path: Path, feed_path: Path) -> Names:
    """What the reconciler told last, and over it what this node's inventory file says."""
    entries = list(load_feed(feed_path) or ())
    try:
        data = inventory_path.read_bytes()
    except OSError:
        return names_of(entries)
    inventory, _faults = decode_inventory(str(inventory_path), data)
    if inventory is not None:
        entries += address_entries(inventory)
    return names_of(entries)
