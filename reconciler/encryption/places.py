"""Where addresses lead: each listed node's own, and the nodes behind every address of nodes and pods.

In:   an inventory; then how its pods changed
Out:  Places
Pure but for the table that Places keeps.

Holds always:
1. After each change Places is as if made of the inventory as it is then.
2. A change of pods costs what changed, whatever stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address

from netpolicy.inventory import Change, Inventory, Pod


class Places:
    """`own`: each listed node's addresses."""

    __slots__ = ("_ends", "own")

    def __init__(self, inventory: Inventory) -> None:
        self.own: Mapping[str, tuple[str, ...]] = {
            node.name: tuple(map(_spelled, node.addresses)) for node in inventory.nodes
        }
        self._ends: dict[str, tuple[str, ...]] = {}  # a node once for each end of it that is there
        for node, addresses in self.own.items():
            for address in addresses:
                self._add(address, node)
        self.move(Change(come=inventory.pods))

    def holders(self, address: str) -> frozenset[str]:
        """The nodes that an address leads to."""
        return frozenset(self._ends.get(address, ()))

    def move(self, pods: Change[Pod]) -> set[str]:
        """Go on to other pods; the addresses that may lead elsewhere than before."""
        touched: set[str] = set()
        for pod in pods.gone:
            for address in map(_spelled, pod.addresses):
                self._remove(address, pod.node)
                touched.add(address)
        for pod in pods.come:
            for address in map(_spelled, pod.addresses):
                self._add(address, pod.node)
                touched.add(address)
        return touched

    def _add(self, address: str, node: str) -> None:
        self._ends[address] = (*self._ends.get(address, ()), node)

    def _remove(self, address: str, node: str) -> None:
        left = list(self._ends.pop(address))
        left.remove(node)
        if left:
            self._ends[address] = tuple(left)


def _spelled(address: str) -> str:
    """The one spelling of an address; what is none stays as it is, and equals none."""
    if ":" not in address:
        return address  # IPv4 has one spelling only
    try:
        return str(ip_address(address))
    except ValueError:
        return address
