"""Thousands of broken packets: the programs say of each what an independent reader says.

honest packet ──▶ mutations ──▶ from_pod, to_pod     every rule is open: what is dropped is unreadable
                          └───▶ PacketReader         must name the same reason
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Reason
from nodeagent.plan.generation import TableFlag
from tests.support.kernel_engine import kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation
from tests.support.kernel_mutations import mutated_packets
from tests.support.kernel_packet_reader import PacketReader

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

PACKETS = 12_000
REMEMBERED_PACKETS = 500
"""The reader knows no time: both forget before the kernel does by itself, however slow the machine is."""
SEED = int(os.environ.get("TIDEGATE_PACKET_SEED", "20260731"))
UNREADABLE = frozenset({
    Reason.INVALID_SOURCE_IP, Reason.INVALID_PACKET, Reason.TRUNCATED, Reason.UNSUPPORTED_L3,
    Reason.UNKNOWN_L4, Reason.INVALID_IPV6_EXTENSION, Reason.FRAGMENT, Reason.UNSUPPORTED_L2,
    Reason.NO_FIRST_FRAGMENT, Reason.VLAN, Reason.INVALID_SOURCE_MAC, Reason.NEIGHBOUR_ADDRESS,
    Reason.NEIGHBOUR_MAC, Reason.ROUTER_ADVERTISEMENT, Reason.INVALID_NEIGHBOUR,
    Reason.FRAGMENT_OVERLAP, Reason.MAPPED_ADDRESS, Reason.SOURCE_ROUTE,
})  # fmt: skip


def test_every_mutated_packet_passes_or_is_dropped_as_an_independent_reader_says() -> None:
    print(f"TIDEGATE_PACKET_SEED={SEED}")
    reader = PacketReader(WEB_ENDPOINT.addresses, bytes.fromhex(WEB_ENDPOINT.mac.replace(":", "")))
    seen: Counter[Reason] = Counter()
    with kernel_engine() as engine:
        everything_open = small_generation({}, flags=TableFlag(0))
        engine.load(everything_open, ADDRESSES, [WEB_ENDPOINT])
        for number, packet in enumerate(mutated_packets(SEED, PACKETS)):
            if number % REMEMBERED_PACKETS == 0:
                engine.forget_flows()
                reader.firsts.clear()
            for direction in Direction:
                expected = reader.expected(packet, direction)
                side = engine.run(WEB_ENDPOINT, direction, packet)
                told = (side.allowed, Reason(side.reason))
                assert told == (expected is Reason.FORWARDED, expected), (
                    f"packet {number} of seed {SEED}, {direction.word}: {packet.hex()}"
                )
                seen[expected] += 1
    print(dict(seen))
    assert seen[Reason.FORWARDED] > PACKETS / 4
    assert set(seen) - {Reason.FORWARDED} == UNREADABLE
