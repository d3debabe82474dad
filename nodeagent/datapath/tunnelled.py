"""Whether a pod's connection travels through a tunnel to another node, by what the programs saw of it.

In:   a pod's connection
Out:  true or false
Shell over the maps of flows.

Holds always:
1. What the kernel does not remember, or never saw in a tunnel, is said to be in the clear.
"""

from __future__ import annotations

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import abi, libbpf, packing
from nodeagent.datapath.abi_numbers import ConntrackFlag
from nodeagent.datapath.libbpf import Map


class Tunnelled:
    """Asks the entry of the flow. A connection to a service has none that knows where it leads."""

    def __init__(self, conntrack: Map, half_open: Map) -> None:
        self._flows = (conntrack, half_open)

    def __call__(
        self,
        endpoint_id: int,
        direction: Direction,
        source: tuple[str, int],
        destination: tuple[str, int],
    ) -> bool:
        """Of a TCP connection from address and port to address and port, which the endpoint judges."""
        local, remote = (source, destination)[:: 1 if direction is Direction.EGRESS else -1]
        key = abi.ConntrackKey(
            endpoint_id=endpoint_id,
            remote=abi.Address.from_buffer_copy(packing.pack_address(remote[0])),
            remote_port=remote[1],
            local_port=local[1],
            protocol=Protocol.TCP,
        )
        found = (libbpf.lookup(flows, bytes(key)) for flows in self._flows)
        return any(
            entry is not None
            and bool(abi.ConntrackEntry.from_buffer_copy(entry).flags & ConntrackFlag.ENCRYPTED)
            for entry in found
        )
