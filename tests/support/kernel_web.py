"""The pod `web` of the small generation, and packets out of it and into it.

web (10.0.0.1, fd00::1)   peer (10.0.0.2, fd00::2)   somewhere in the world (192.0.2.1, 2001:db8::1)
"""

from __future__ import annotations

from netpolicy.rules import Direction, Protocol
from tests.support.kernel_engine import KernelEngine, KernelSide
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, without_rules

TCP, UDP, SCTP, ICMP, ICMPV6 = (
    Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6,
)  # fmt: skip
WEB4, WEB6, PEER4, PEER6, FAR4, FAR6 = (
    "10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2", "192.0.2.1", "2001:db8::1",
)  # fmt: skip


def out(engine: KernelEngine, packet: bytes) -> KernelSide:
    """What the programs say of a packet that web sends."""
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet)


def into(engine: KernelEngine, packet: bytes) -> KernelSide:
    """What they say of one that is sent to web."""
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, packet)


def revoke(engine: KernelEngine) -> None:
    """Put a generation in force that has no rules: web may do nothing more."""
    engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
