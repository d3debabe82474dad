"""Give each node of a world the folder of WireGuard's sockets that a machine of its own would have.

In:   a World, a node, a command
Out:  the command, in a mount namespace where that folder is the node's
Pure but for making the folder.

wireguard-go keeps its sockets under one fixed path, and devices of two nodes have the same names. The
folder outlives the program, so that the next one finds the tunnels that the last one left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.support.world import World

_ENTER: Final = 'mkdir -p /var/run/wireguard && mount --bind "$0" /var/run/wireguard && exec "$@"'


def with_own_sockets(world: World, node: str, command: Sequence[str]) -> list[str]:
    """The command, beside nobody else's sockets."""
    folder = world.directory / "sockets" / node
    folder.mkdir(parents=True, exist_ok=True)
    return ["unshare", "--mount", "sh", "-c", _ENTER, str(folder), *command]
