"""Datagrams that somebody on the link between the nodes sends in a pod's or service's name.

In:   a World, whom they are said to be from and to
Out:  frames on the link, past every filter of the node that they leave from
Shell over a packet socket; making a frame is pure.
"""

from __future__ import annotations

import json
import socket
import struct
from ipaddress import ip_address
from typing import Final

from tests.support.kernel_packets import IPV4, IPV6, ipv4, ipv6, udp
from tests.support.kernel_pods import within
from tests.support.world import World
from tests.support.world_topology import NODE_LINK

_SOL_PACKET: Final = 263
_PACKET_QDISC_BYPASS: Final = 20
_UDP_CHECKSUM_AT: Final = 6
_IPV4_CHECKSUM_AT: Final = 10
_MORE_FRAGMENTS: Final = 0x2000
_IPV4_BYTES: Final = 20


def forge(
    world: World,
    *,
    sender: str,
    source: tuple[str, int],
    destination: tuple[str, int],
    data: bytes,
    is_cut: bool = False,
) -> None:
    """Send a datagram from `sender`'s end of the link to the other; `is_cut`: IPv4 only, as a first
    fragment of a longer one."""
    receiver = next(node.name for node in world.topology.nodes if node.name != sender)
    packet = _packet(source, destination, data, is_cut=is_cut)
    kind = IPV6 if ":" in source[0] else IPV4
    head = _mac(world, receiver) + _mac(world, sender) + struct.pack("!H", kind)
    with within(world.namespace(sender), _wire) as wire:
        wire.send(head + packet)


def _wire() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    made.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
    made.bind((NODE_LINK, 0))
    return made


def _mac(world: World, node: str) -> bytes:
    (link,) = json.loads(world.run(node, ["ip", "-j", "link", "show", NODE_LINK]).stdout)
    return bytes.fromhex(link["address"].replace(":", ""))


def _packet(
    source: tuple[str, int], destination: tuple[str, int], data: bytes, *, is_cut: bool
) -> bytes:
    ends = ip_address(source[0]).packed + ip_address(destination[0]).packed
    datagram = udp(source[1], destination[1], data)
    pseudo = ends + struct.pack("!II", len(datagram), socket.IPPROTO_UDP)
    datagram = _with_checksum(datagram, _UDP_CHECKSUM_AT, over=pseudo)
    if ":" in source[0]:
        return ipv6(source[0], destination[0], socket.IPPROTO_UDP, datagram)
    field = _MORE_FRAGMENTS if is_cut else 0
    packet = ipv4(source[0], destination[0], socket.IPPROTO_UDP, datagram, fragment=field)
    return _with_checksum(packet[:_IPV4_BYTES], _IPV4_CHECKSUM_AT) + packet[_IPV4_BYTES:]


def _with_checksum(data: bytes, at: int, *, over: bytes = b"") -> bytes:
    """`over`: what is summed up as well."""
    whole = over + data
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole[: len(whole) & ~1]))
    total += whole[-1] << 8 if len(whole) % 2 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", ~total & 0xFFFF) + data[at + 2 :]
