"""A tap on the link between a world's nodes: which packets of pods cross it in the clear.

In:   a World
Out:  Tap: packets with a pod's address, and when; how many datagrams of tunnels
Shell over a packet socket; reading a frame is pure.

Holds always:
1. A tap that missed a frame says so: its silence would prove nothing.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from tests.support.kernel_pods import within
from tests.support.world import World, WorldError
from tests.support.world_topology import NODE_LINK

POD_BLOCKS: Final = ("10.0.0.0/8", "fd00:10::/32")
_ETHERNET_BYTES: Final = 14
_IPV6_BYTES: Final = 40
_ALL_FRAMES: Final = 0x0003
_LONGEST_FRAME: Final = 65_536
_BUFFER_BYTES: Final = 1 << 24
_LOOK_SECONDS: Final = 0.1
_SO_RCVBUFFORCE: Final = 33
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")
_SOL_PACKET: Final = 263
_PACKET_STATISTICS: Final = 6


@dataclass(frozen=True, slots=True)
class ClearPacket:
    """A packet from or to a pod that anybody on the link can read."""

    source: str
    destination: str
    protocol: int
    at: float


class Tap:
    """What crossed the link, seen from one of its ends."""

    def __init__(self) -> None:
        self.in_the_clear: list[ClearPacket] = []
        self.tunnelled = 0
        self.ports_in_the_clear: set[int] = set()
        """Of TCP, the lower one of each packet's: the server's."""
        self._blocks = [ip_network(block) for block in POD_BLOCKS]

    def see(self, frame: bytes, at: float) -> None:
        """Note a frame; `at`: when the kernel had it."""
        kind = struct.unpack("!H", frame[12:14])[0]
        if kind == 0x0800:
            source, destination, protocol = frame[26:30], frame[30:34], frame[23]
        elif kind == 0x86DD:
            source, destination, protocol = frame[22:38], frame[38:54], frame[20]
        else:
            return
        if protocol == socket.IPPROTO_TCP:
            tcp = _ETHERNET_BYTES + (4 * (frame[14] & 0x0F) if kind == 0x0800 else _IPV6_BYTES)
            self.ports_in_the_clear.add(min(struct.unpack("!HH", frame[tcp : tcp + 4])))
        ends = (ip_address(source), ip_address(destination))
        if any(end in block for end in ends for block in self._blocks):
            packet = ClearPacket(str(ends[0]), str(ends[1]), protocol, at)
            self.in_the_clear.append(packet)
        elif protocol == socket.IPPROTO_UDP:
            self.tunnelled += 1

    def clear_since(self, moment: float) -> list[ClearPacket]:
        """What was in the clear after a moment."""
        return [packet for packet in self.in_the_clear if packet.at > moment]


@contextmanager
def tap(world: World, node: str) -> Iterator[Tap]:
    """Watch both directions at a node's end of the link."""

    def listen() -> socket.socket:
        # Of no protocol until it is bound: one that hears all would hear every interface till then.
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        made.bind((NODE_LINK, _ALL_FRAMES))
        made.settimeout(_LOOK_SECONDS)
        return made

    seen, over = Tap(), threading.Event()
    sniffer = within(world.namespace(node), listen)

    def follow() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                seen.see(*_receive(sniffer))
        sniffer.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                seen.see(*_receive(sniffer))

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        _, missed = struct.unpack("II", sniffer.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        sniffer.close()
    if missed:
        raise WorldError(f"the tap missed {missed} frames: what it did not see proves nothing")


def _receive(sniffer: socket.socket) -> tuple[bytes, float]:
    """A frame, and the kernel's time of it: this process may be late."""
    room = socket.CMSG_SPACE(_TIMESPEC.size)
    frame, ((_, _, stamp),), *_ = sniffer.recvmsg(_LONGEST_FRAME, room)
    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
    return frame, seconds + nanoseconds / 1e9
