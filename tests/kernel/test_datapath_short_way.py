"""The short way of established packets does what the long way does, on thousands of broken packets.

established flow ──▶ its packets, mutated ──┬──▶ the programs as they are
                                            └──▶ the same without the short way
                                                 equal: verdicts, events, flows, counters
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry, Counters
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation, without_rules
from tests.support.kernel_mutations import FAR4, FAR6, WEB4, WEB6, mutated_packets
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip, tcp, udp

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

PACKETS = 4_000
SEED = int(os.environ.get("TIDEGATE_PACKET_SEED", "20260731"))
COMPARED_EVERY = 125
BPF = Path(__file__).resolve().parents[2] / "bpf"
SHORT_WAY = "pass_established(skb, direction, &action)"
PEER4, PEER6 = "10.0.0.2", "fd00::2"
PUSH = 0x08
OUT, IN = Direction.EGRESS, Direction.INGRESS

Passing = tuple[Direction, bytes]
"""A packet, and the program that sees it."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KernelEngine, ...]]:
    """The programs as they are, and with the long way only; each with the same flows."""
    long_way_only = compiled_without_short_way(tmp_path_factory.mktemp("long-way"))
    with ExitStack() as stack:
        both = (
            stack.enter_context(kernel_engine()),
            stack.enter_context(kernel_engine(object_path=long_way_only)),
        )
        for engine in both:
            engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
        yield both


def compiled_without_short_way(directory: Path) -> Path:
    source, compiled = directory / "long.bpf.c", directory / "long.bpf.o"
    text = (BPF / "tidegate.bpf.c").read_text()
    assert text.count(SHORT_WAY) == 1
    source.write_text(text.replace(SHORT_WAY, "false"))
    machine = f"/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wno-unused-function"]
    subprocess.run(
        [*command, f"-I{machine}", f"-I{BPF}", "-c", str(source), "-o", str(compiled)], check=True
    )
    return compiled


def openings(web: str, far: str, peer: str) -> list[Passing]:
    """Of connections in both directions, of datagrams, and of one that is found mid-stream."""
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, SYN))),
        (IN, ip(far, web, Protocol.TCP, tcp(80, 4000, SYN | ACK))),
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, ACK))),
        (IN, ip(peer, web, Protocol.TCP, tcp(5000, 8080, SYN))),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8080, 5000, SYN | ACK))),
        (IN, ip(peer, web, Protocol.TCP, tcp(5000, 8080, ACK))),
        *middle(web, far, peer),
    ]


def middle(web: str, far: str, peer: str) -> list[Passing]:
    """What travels in flows that are established; nearly all of it may take the short way."""
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, ACK) + bytes(40))),
        (IN, ip(far, web, Protocol.TCP, tcp(80, 4000, ACK | PUSH) + bytes(9))),
        (IN, ip(peer, web, Protocol.TCP, tcp(5000, 8080, ACK | PUSH) + bytes(30))),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8080, 5000, ACK))),
        (OUT, ip(web, far, Protocol.UDP, udp(4000, 53, bytes(20)))),
        (IN, ip(far, web, Protocol.UDP, udp(53, 4000, bytes(50)))),
        (OUT, ip(web, far, Protocol.TCP, tcp(6000, 80, ACK) + bytes(4))),
        (IN, ip(far, web, Protocol.TCP, tcp(80, 6000, ACK) + bytes(4))),
    ]


def impostors() -> list[Passing]:
    """The IPv4 flow in IPv6 packets, as none may travel; and an opening that nobody has answered."""
    web, far = f"::ffff:{WEB4}", f"::ffff:{FAR4}"
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, ACK))),
        (IN, ip(far, web, Protocol.UDP, udp(53, 4000, bytes(8)))),
        (OUT, ip(WEB4, FAR4, Protocol.TCP, tcp(4000, 80, SYN))),
    ]


def ends() -> list[Passing]:
    return [
        (OUT, ip(WEB4, FAR4, Protocol.TCP, tcp(4000, 80, ACK | FIN))),
        (IN, ip(PEER6, WEB6, Protocol.TCP, tcp(5000, 8080, RST))),
    ]


def flows_and_counters(engine: KernelEngine) -> tuple[list[ConntrackEntry], Counters]:
    """All that is remembered, but for the times."""
    flows = (replace(flow, last_seen_ns=0) for flow in engine.datapath.read_conntrack())
    return sorted(flows, key=repr), engine.datapath.counters()


def told(engine: KernelEngine, direction: Direction, packet: bytes) -> tuple[object, ...]:
    side, events = engine.run_and_listen(WEB_ENDPOINT, direction, packet)
    return side, *(replace(event, ktime_ns=0) for event in events)


def test_mutated_packets_of_established_flows_fare_alike_with_and_without_the_short_way(
    engines: tuple[KernelEngine, KernelEngine],
) -> None:
    print(f"TIDEGATE_PACKET_SEED={SEED}")
    random = Random(SEED)
    worlds = ((WEB4, FAR4, PEER4), (WEB6, FAR6, PEER6))
    opened = [passing for world in worlds for passing in openings(*world)]
    honest = [passing for world in worlds for passing in middle(*world)]
    between = honest * 4 + impostors()
    travelling = {way: [packet for at, packet in honest if at is way] for way in Direction}
    mutations = {way: mutated_packets(SEED, PACKETS, travelling[way]) for way in Direction}
    for number in range(PACKETS):
        if number % COMPARED_EVERY == 0:
            states = [flows_and_counters(engine) for engine in engines]
            assert states[0] == states[1], f"behind packet {number} of seed {SEED}"
            change_world(engines, random)
            passings = [*opened, *(ends() if number % (4 * COMPARED_EVERY) == 0 else ())]
        else:
            way = random.choice((OUT, IN))
            passings = [(way, next(mutations[way])), random.choice(between)]
        for direction, packet in passings:
            with_short, without = (told(engine, direction, packet) for engine in engines)
            assert with_short == without, (
                f"packet {number} of seed {SEED}, {direction.word}: {packet.hex()}"
            )


def change_world(engines: tuple[KernelEngine, KernelEngine], random: Random) -> None:
    """What may happen to flows besides packets."""
    change = random.choice(("nothing", "revoked", "allowed", "forgotten", "aged", "expired"))
    for engine in engines:
        match change:
            case "revoked":
                engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
            case "allowed":
                engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
            case "forgotten":
                engine.forget_flows()
            case "aged":
                engine.age_flows(5)
            case "expired":
                engine.age_flows(7 * 3600)
