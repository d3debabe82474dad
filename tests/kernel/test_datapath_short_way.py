"""The short way of established packets does what the long way does, on thousands of broken packets.

established flow ──▶ its packets, mutated ──┬──▶ the programs as they are
                                            └──▶ the same without the short way
                                                 equal: verdicts, marks, events, flows, counters

Some flows are the proxy's: their packets go to it, or bear the marks that say how it sent them. It listens
here, and takes nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry, Counters
from nodeagent.datapath.abi_numbers import (
    MARK_DECRYPTED,
    MARK_PROXY_TO_CLIENT,
    MARK_PROXY_TO_OPENER,
    MARK_PROXY_TO_SERVER,
    MARK_REDIRECTED,
)
from nodeagent.datapath.encryption_maps import WireMode
from nodeagent.plan.generation import Generation, PolicyEntry, Verdict
from nodeagent.plan.places import Place
from tests.support.kernel_engine import TEST_INTERFACE, KernelEngine, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    OUT_COOKIE,
    PEER_CLASS,
    RULES,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    without_rules,
)
from tests.support.kernel_mutations import FAR4, FAR6, WEB4, WEB6, mutated_packets
from tests.support.kernel_packets import ACK, FIN, RST, SYN, ip, tcp, udp

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

PACKETS = 4_000
SEED = int(os.environ.get("TIDEGATE_PACKET_SEED", "20260731"))
COMPARED_EVERY = 125
FREE_PORT_ATTEMPTS = 20
BPF = Path(__file__).resolve().parents[2] / "bpf"
BOTH_WAYS = "pass_established(skb, direction, &action) ? action : enforce(skb, direction)"
EITHER_WAY = """\
(skb->priority != 1 && pass_established(skb, direction, &action)) ? action :
	(skb->priority == 2 ? TC_ACT_SHOT : enforce(skb, direction))"""
"""Programs of which the packet's priority says what is left of them."""
LONG_WAY_ONLY, SHORT_WAY_ONLY = 1, 2
PASS, SHOT, REDIRECT = -1, 2, 7
PEER4, PEER6 = "10.0.0.2", "fd00::2"
WORLDS = ((WEB4, FAR4, PEER4), (WEB6, FAR6, PEER6))
PUSH = 0x08
OUT, IN = Direction.EGRESS, Direction.INGRESS

MARKS = (0, 0, MARK_PROXY_TO_CLIENT, MARK_PROXY_TO_SERVER, MARK_PROXY_TO_OPENER, MARK_DECRYPTED)

Passing = tuple[Direction, bytes, int]
"""The program that sees a packet, the packet, and its mark."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the proxy seems to listen: free at both loopback addresses, which others here may use."""
    for _ in range(FREE_PORT_ATTEMPTS):
        with socket.create_server(("127.0.0.1", 0)) as v4, socket.socket(socket.AF_INET6) as v6:
            number: int = v4.getsockname()[1]
            with suppress(OSError):
                v6.bind(("::1", number))
                v6.listen()
                yield number
                return
    raise AssertionError("no port is free")


@pytest.fixture(scope="module")
def engines(
    tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[tuple[KernelEngine, ...]]:
    """The programs as they are, and those that take either way; each with the same flows."""
    either_way = compiled_with_either_way(tmp_path_factory.mktemp("either-way"))
    with ExitStack() as stack:
        both = (
            stack.enter_context(kernel_engine()),
            stack.enter_context(kernel_engine(object_path=either_way)),
        )
        for engine in both:
            engine.datapath.proxy.lead_to(TEST_INTERFACE)
            engine.datapath.set_places({FAR4: Place.TUNNEL, FAR6: Place.TUNNEL})
            engine.load(judging(port), ADDRESSES, [WEB_ENDPOINT])
        yield both


def compiled_with_either_way(directory: Path) -> Path:
    source, compiled = directory / "either.bpf.c", directory / "either.bpf.o"
    text = (BPF / "tidegate.bpf.c").read_text()
    assert text.count(BOTH_WAYS) == 1
    source.write_text(text.replace(BOTH_WAYS, EITHER_WAY))
    machine = f"/usr/include/{os.uname().machine}-linux-gnu"
    command = ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3"]
    subprocess.run(
        [*command, f"-I{machine}", f"-I{BPF}", "-c", str(source), "-o", str(compiled)], check=True
    )
    return compiled


def judging(port: int) -> Generation:
    """The small generation, with requests to and from web that the proxy judges."""
    redirect = PolicyEntry(Verdict.REDIRECT, OUT_COOKIE, port)
    return small_generation(
        {
            **RULES,
            (OUT, WORLD_CLASS, Protocol.TCP, 443): redirect,
            (IN, PEER_CLASS, Protocol.TCP, 8443): redirect,
        }
    )


def openings(web: str, far: str, peer: str) -> list[Passing]:
    """Of connections in both directions, of datagrams, of one that is found mid-stream, of judged ones."""
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, SYN)), 0),
        (IN, ip(far, web, Protocol.TCP, tcp(80, 4000, SYN | ACK)), 0),
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, ACK)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(5000, 8080, SYN)), 0),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8080, 5000, SYN | ACK)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(5000, 8080, ACK)), 0),
        *judged_openings(web, far, peer),
        *middle(web, far, peer),
    ]


def judged_openings(web: str, far: str, peer: str) -> list[Passing]:
    """Web's to the proxy, a peer's to the proxy, and the proxy's to web as the peer."""
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(7000, 443, SYN)), 0),
        (IN, ip(far, web, Protocol.TCP, tcp(443, 7000, SYN | ACK)), MARK_PROXY_TO_OPENER),
        (OUT, ip(web, far, Protocol.TCP, tcp(7000, 443, ACK)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(7001, 8443, SYN)), 0),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8443, 7001, SYN | ACK)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(7001, 8443, ACK)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(7002, 8443, SYN)), MARK_PROXY_TO_SERVER),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8443, 7002, SYN | ACK)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(7002, 8443, ACK)), MARK_PROXY_TO_SERVER),
    ]


def middle(web: str, far: str, peer: str) -> list[Passing]:
    """What travels in flows that are established; nearly all of it may take the short way."""
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, ACK) + bytes(40)), 0),
        (IN, ip(far, web, Protocol.TCP, tcp(80, 4000, ACK | PUSH) + bytes(9)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(5000, 8080, ACK | PUSH) + bytes(30)), 0),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8080, 5000, ACK)), 0),
        (OUT, ip(web, far, Protocol.UDP, udp(4000, 53, bytes(20))), 0),
        (IN, ip(far, web, Protocol.UDP, udp(53, 4000, bytes(50))), 0),
        (OUT, ip(web, far, Protocol.TCP, tcp(6000, 80, ACK) + bytes(4)), 0),
        (IN, ip(far, web, Protocol.TCP, tcp(80, 6000, ACK) + bytes(4)), 0),
        *judged_middle(web, far, peer),
    ]


def judged_middle(web: str, far: str, peer: str) -> list[Passing]:
    """What travels to the proxy, and from it."""
    return [
        (OUT, ip(web, far, Protocol.TCP, tcp(7000, 443, ACK) + bytes(40)), 0),
        (IN, ip(far, web, Protocol.TCP, tcp(443, 7000, ACK) + bytes(9)), MARK_PROXY_TO_OPENER),
        (IN, ip(far, web, Protocol.TCP, tcp(443, 7000, ACK) + bytes(9)), MARK_DECRYPTED),
        (IN, ip(peer, web, Protocol.TCP, tcp(7001, 8443, ACK | PUSH) + bytes(30)), 0),
        (IN, ip(peer, web, Protocol.TCP, tcp(7002, 8443, ACK) + bytes(8)), MARK_PROXY_TO_SERVER),
        (OUT, ip(web, peer, Protocol.TCP, tcp(8443, 7002, ACK) + bytes(90)), 0),
    ]


def impostors() -> list[Passing]:
    """The IPv4 flow in IPv6 packets, as none may travel; an opening that nobody has answered; the answer of
    a socket of the proxy that waits after its connection.
    """
    web, far = f"::ffff:{WEB4}", f"::ffff:{FAR4}"
    return [
        (IN, ip(FAR4, WEB4, Protocol.TCP, tcp(443, 7000, ACK)), MARK_PROXY_TO_CLIENT),
        (OUT, ip(web, far, Protocol.TCP, tcp(4000, 80, ACK)), 0),
        (IN, ip(far, web, Protocol.UDP, udp(53, 4000, bytes(8))), 0),
        (OUT, ip(WEB4, FAR4, Protocol.TCP, tcp(4000, 80, SYN)), 0),
    ]


def ends() -> list[Passing]:
    return [
        (OUT, ip(WEB4, FAR4, Protocol.TCP, tcp(4000, 80, ACK | FIN)), 0),
        (IN, ip(PEER6, WEB6, Protocol.TCP, tcp(5000, 8080, RST)), 0),
        (OUT, ip(WEB4, FAR4, Protocol.TCP, tcp(7000, 443, ACK | FIN)), 0),
        (IN, ip(PEER6, WEB6, Protocol.TCP, tcp(7001, 8443, RST)), 0),
    ]


def flows_and_counters(engine: KernelEngine) -> tuple[list[ConntrackEntry], Counters]:
    """All that is remembered, but for the times."""
    flows = (replace(flow, last_seen_ns=0) for flow in engine.datapath.read_conntrack())
    return sorted(flows, key=repr), engine.datapath.counters()


def told(engine: KernelEngine, passing: Passing, *, priority: int = 0) -> tuple[object, ...]:
    direction, packet, mark = passing
    result, behind, events = engine.run_marked(
        WEB_ENDPOINT, direction, packet, mark=mark, priority=priority
    )
    return result, behind, *(replace(event, ktime_ns=0) for event in events)


def test_mutated_packets_of_established_flows_fare_alike_with_and_without_the_short_way(
    engines: tuple[KernelEngine, KernelEngine], port: int
) -> None:
    print(f"TIDEGATE_PACKET_SEED={SEED}")
    random = Random(SEED)
    opened = [passing for world in WORLDS for passing in openings(*world)]
    honest = [passing for world in WORLDS for passing in middle(*world)]
    between = honest * 4 + impostors()
    travelling = {way: [packet for at, packet, _ in honest if at is way] for way in Direction}
    mutations = {way: mutated_packets(SEED, PACKETS, travelling[way]) for way in Direction}
    for number in range(PACKETS):
        if number % COMPARED_EVERY == 0:
            states = [flows_and_counters(engine) for engine in engines]
            assert states[0] == states[1], f"behind packet {number} of seed {SEED}"
            change_world(engines, random, port)
            passings = [*opened, *(ends() if number % (4 * COMPARED_EVERY) == 0 else ())]
        else:
            way = random.choice((OUT, IN))
            passings = [
                (way, next(mutations[way]), random.choice(MARKS)),
                random.choice(between),
            ]
        for passing in passings:
            as_it_is = told(engines[0], passing)
            assert as_it_is == told(engines[1], passing, priority=LONG_WAY_ONLY), (
                f"packet {number} of seed {SEED}, {passing[0].word}: {passing[1].hex()}"
            )


CHANGES = (
    "nothing",
    "revoked",
    "allowed",
    "allowed",
    "moved",
    "sealed",
    "opened",
    "forgotten",
    "aged",
    "expired",
)


def change_world(engines: tuple[KernelEngine, KernelEngine], random: Random, port: int) -> None:
    """What may happen to flows besides packets. `moved`: judged ones are cut off."""
    change = random.choice(CHANGES)
    for engine in engines:
        match change:
            case "revoked":
                engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
            case "allowed":
                engine.load(judging(port), ADDRESSES, [WEB_ENDPOINT])
            case "moved":
                engine.load(judging(port + 1), ADDRESSES, [WEB_ENDPOINT])
            case "sealed":
                engine.datapath.set_encryption(WireMode(is_on=True, strict=True))
            case "opened":
                engine.datapath.set_encryption(WireMode())
            case "forgotten":
                engine.forget_flows()
            case "aged":
                engine.age_flows(5)
            case "expired":
                engine.age_flows(7 * 3600)


def test_packets_of_judged_connections_take_the_short_way_and_no_tunnel(
    engines: tuple[KernelEngine, KernelEngine], port: int
) -> None:
    either = engines[1]
    either.datapath.set_encryption(WireMode(is_on=True, strict=True))
    either.load(judging(port), ADDRESSES, [WEB_ENDPOINT])
    either.forget_flows()
    back, on = MARK_REDIRECTED | 2, MARK_REDIRECTED | port << 16
    for world in WORLDS:
        for passing in judged_openings(*world):
            told(either, passing, priority=LONG_WAY_ONLY)
        ways = [told(either, one, priority=SHORT_WAY_ONLY)[:2] for one in judged_middle(*world)]
        assert ways == [
            (REDIRECT, on),
            (PASS, MARK_PROXY_TO_OPENER),
            (REDIRECT, back),
            (REDIRECT, on),
            (PASS, MARK_PROXY_TO_SERVER),
            (REDIRECT, back),
        ]
        opening = judged_openings(*world)[0]
        assert told(either, opening, priority=SHORT_WAY_ONLY)[0] == SHOT
