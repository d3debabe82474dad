"""What stands on an interface of a test's world, and taking ours off it behind the agent's back.

In:   a world, a node of it, an interface
Out:  Filter values; an interface without our programs
Shell over the node's network namespace.
"""

from __future__ import annotations

import socket

from nodeagent.datapath import Filter, attach
from nodeagent.datapath.filters import PODS, list_filters
from tests.support.kernel_pods import within
from tests.support.world import World


def standing(world: World, node: str, interface: str) -> tuple[Filter, ...]:
    """Everything, in the order packets meet it; nothing if the interface is gone."""

    def look() -> tuple[Filter, ...]:
        try:
            return list_filters([socket.if_nametoindex(interface)])
        except OSError:
            return ()

    return within(world.namespace(node), look)


def is_under_policy(world: World, node: str, interface: str) -> bool:
    """True if our programs stand there in both directions."""
    ours = [found.direction for found in standing(world, node, interface) if found.is_ours]
    return len(ours) == len(set(ours)) == 2


def take_ours_off(world: World, node: str, interface: str) -> None:
    """As somebody with root may: the interface is open."""
    within(
        world.namespace(node),
        lambda: attach.detach(socket.if_nametoindex(interface), PODS),
    )
