"""TG330, TG331: blocks that mean more, or less, than their author is likely to think."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from ipaddress import ip_address

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory
from netpolicy.rules import Action
from reconciler.validate.flow_sets import Network, network_of
from reconciler.validate.written import Written


class ClusterAddresses:
    """The addresses of pods and nodes, sorted, to count those inside a block."""

    def __init__(self, inventory: Inventory | None) -> None:
        self._sorted: dict[int, list[int]] = {4: [], 6: []}
        for text in _addresses(inventory or Inventory()):
            address = ip_address(text)
            self._sorted[address.version].append(int(address))
        for addresses in self._sorted.values():
            addresses.sort()

    @property
    def is_unknown(self) -> bool:
        """True if there is no address to look for."""
        return not any(self._sorted.values())

    def count(self, network: Network) -> int:
        """How many of them are in the block."""
        addresses = self._sorted[network.version]
        first, last = int(network.network_address), int(network.broadcast_address)
        return bisect_right(addresses, last) - bisect_left(addresses, first)


def _addresses(inventory: Inventory) -> Iterator[str]:
    for pod in inventory.pods:
        yield from pod.addresses
    for node in inventory.nodes:
        yield from node.addresses


def check_broad_blocks(written: Written) -> Iterator[Diagnostic]:
    """Find the blocks of one policy that allow every address outside."""
    for rule in written.rules:
        if rule.rule.action is not Action.ALLOW or rule.rule.ports is not None:
            continue
        for block in rule.peers.blocks:
            if block.cidr.endswith("/0") and not block.excepts:
                message = f"{block.cidr} allows every port of every address outside the cluster"
                yield written.warn("TG330", message, origin=rule.rule.origin)


def check_cluster_blocks(written: Written, cluster: ClusterAddresses) -> Iterator[Diagnostic]:
    """Find the blocks of one policy that hold addresses of pods or nodes."""
    if cluster.is_unknown:
        return
    for rule in written.rules:
        for block in rule.peers.blocks:
            # Of 0.0.0.0/0 its author knows that it holds everything.
            if not block.cidr.endswith("/0") and (held := cluster.count(network_of(block.cidr))):
                message = (
                    f"{block.cidr} holds addresses of {held} pods or nodes, and does not mean them"
                )
                yield written.warn("TG331", message, origin=rule.rule.origin)
