"""TG330, TG331: blocks that mean more, or less, than their author is likely to think."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from ipaddress import ip_address

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory
from netpolicy.rules import Action, CidrBlock
from reconciler.validate.flow_sets import Network, network_of
from reconciler.validate.written import Written, WrittenRule


class ClusterAddresses:
    """The addresses of pods and nodes, sorted, to count those inside a block."""

    def __init__(self, inventory: Inventory | None) -> None:
        self._sorted: dict[int, list[int]] = {4: [], 6: []}
        for text in _addresses(inventory or Inventory()):
            address = ip_address(text)
            self._sorted[address.version].append(int(address))
        for addresses in self._sorted.values():
            addresses.sort()

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


def check_broad_blocks(written: Written, cluster: ClusterAddresses) -> Iterator[Diagnostic]:
    """Check the blocks of one policy."""
    for rule in written.rules:
        for block in rule.peers.blocks:
            network = network_of(block.cidr)
            if network.prefixlen == 0:
                yield from _everywhere(written, rule, block)
            elif held := cluster.count(network):
                message = (
                    f"{block.cidr} holds addresses of {held} pods or nodes, and does not mean them"
                )
                yield written.warn("TG331", message, origin=rule.rule.origin)


def _everywhere(written: Written, rule: WrittenRule, block: CidrBlock) -> Iterator[Diagnostic]:
    if rule.rule.action is Action.ALLOW and rule.rule.ports is None and not block.excepts:
        message = f"{block.cidr} allows every port of every address outside the cluster"
        yield written.warn("TG330", message, origin=rule.rule.origin)
