"""A revoke cuts what it revokes, and nothing else: live, and for every protocol from packets.

client ── open flow ──▶ server       both directions of the connection, opened from either side
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Reason
from nodeagent.plan.generation import (
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    PEER_CLASS,
    WEB_ENDPOINT,
    Rules,
    small_generation,
)
from tests.support.kernel_packets import ACK, SYN, ip
from tests.support.kernel_pods import CLIENT, SERVER, Pods, two_pods

pytestmark = pytest.mark.kernel

IN, OUT = Direction.INGRESS, Direction.EGRESS
TCP, UDP, SCTP = Protocol.TCP, Protocol.UDP, Protocol.SCTP
WEB, PEER = {4: "10.0.0.1", 6: "fd00::1"}, {4: "10.0.0.2", 6: "fd00::2"}
PORT, FROM_PORT = 8443, 5000
SCTP_DATA = 0


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


def only(direction: Direction, protocol: Protocol, *, port: int = PORT, cookie: int = 5) -> Rules:
    """The one thing that web may do."""
    return {(direction, PEER_CLASS, protocol, port): PolicyEntry(Verdict.ALLOW, cookie)}


def segment(protocol: Protocol, *, from_opener: bool, opens: bool) -> bytes:
    source, destination = (FROM_PORT, PORT) if from_opener else (PORT, FROM_PORT)
    if protocol is UDP:
        return packets.udp(source, destination)
    if protocol is SCTP:
        return packets.sctp(source, destination, 1 if opens else SCTP_DATA)
    flags = (SYN if from_opener else SYN | ACK) if opens else ACK
    return packets.tcp(source, destination, flags)


class Flow:
    """One flow of web's with its peer, opened in some direction."""

    def __init__(
        self, engine: KernelEngine, direction: Direction, protocol: Protocol, family: int
    ) -> None:
        self._engine = engine
        self._opened = direction
        self._protocol = protocol
        self._ends = {OUT: (WEB[family], PEER[family]), IN: (PEER[family], WEB[family])}

    def send(self, way: Direction, *, opens: bool = False) -> int:
        """The reason that a packet is dropped with, or 0."""
        content = segment(self._protocol, from_opener=way is self._opened, opens=opens)
        packet = ip(*self._ends[way], self._protocol, content)
        side = self._engine.run(WEB_ENDPOINT, way, packet)
        return 0 if side.allowed else side.reason

    def establish(self) -> None:
        back = IN if self._opened is OUT else OUT
        assert [
            self.send(self._opened, opens=True),
            self.send(back, opens=self._protocol is TCP),
            self.send(self._opened),
        ] == [0, 0, 0]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
@pytest.mark.parametrize("opened", [IN, OUT])
def test_a_revoke_cuts_a_flow_both_ways_and_an_unrelated_change_neither(
    engine: KernelEngine, opened: Direction, protocol: Protocol, family: int
) -> None:
    allowed = small_generation(only(opened, protocol))
    engine.load(allowed, ADDRESSES, [WEB_ENDPOINT])
    engine.forget_flows()
    flow = Flow(engine, opened, protocol, family)
    flow.establish()
    unrelated = small_generation({**only(opened, protocol, cookie=6), **only(OUT, TCP, port=9)})
    elsewhere = replace(ADDRESSES, exact={**ADDRESSES.exact, "10.0.0.77": 1000})
    for generation, addresses in ((unrelated, ADDRESSES), (unrelated, elsewhere)):
        engine.load(generation, addresses, [WEB_ENDPOINT])
        assert [flow.send(way) for way in (IN, OUT, IN)] == [0, 0, 0]
    engine.load(small_generation(only(OUT, TCP, port=9)), ADDRESSES, [WEB_ENDPOINT])
    assert {flow.send(way) for way in (OUT, IN, OUT, IN)} == {Reason.POLICY_DENIED}
    assert flow.send(opened, opens=True) == Reason.POLICY_DENIED
    engine.load(allowed, ADDRESSES, [WEB_ENDPOINT])
    assert [flow.send(way) for way in (opened, IN, OUT)] == [0, 0, 0]


# Live ----------------------------------------------------------------------------------------------

DIGESTS = count(1)


def server_admits(*, any_port: bool, cookie: int = 31) -> Generation:
    """The server refuses everything, or admits the client; the client is open."""
    key = PolicyKey(2, 1, int(IN), 0, 0)
    return Generation(
        policy={key: PolicyEntry(Verdict.ALLOW, cookie)} if any_port else {},
        class_of={2: 3, CLIENT: 1, SERVER: 2},
        port_class_of={},
        endpoint_tables={
            1: EndpointTable(1, TableFlag(0)),
            2: EndpointTable(2, TableFlag.DENY_INGRESS, ingress_cookie=32),
        },
        attributions={},
        digest=f"{next(DIGESTS):064x}",
    )


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    with two_pods() as pods:
        pods.enforce(server_admits(any_port=True))
        pods.place()
        yield pods


def datagram_socket(pods: Pods, place: str, address: str) -> socket.socket:
    def make() -> socket.socket:
        made = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
        )
        made.bind((address, 0))
        return made

    return pods.within(place, make)


def arrives(sender: socket.socket, receiver: socket.socket, *, wait: float) -> bool:
    sender.sendto(b"datagram", receiver.getsockname())
    if not select.select([receiver], [], [], wait)[0]:
        return False
    return receiver.recv(64) == b"datagram"


@pytest.mark.parametrize(
    ("client_at", "server_at"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
)
def test_datagrams_live_are_cut_by_a_revoke_and_undisturbed_by_anything_else(
    pods: Pods, client_at: str, server_at: str
) -> None:
    pods.enforce(server_admits(any_port=True))
    with (
        datagram_socket(pods, "client", client_at) as client,
        datagram_socket(pods, "server", server_at) as server,
    ):
        assert arrives(client, server, wait=5)
        for cookie in range(40, 50):
            assert arrives(server, client, wait=5)
            assert arrives(client, server, wait=5)
            pods.enforce(server_admits(any_port=True, cookie=cookie))
        pods.enforce(server_admits(any_port=False))
        assert not arrives(client, server, wait=0.5)
        assert not arrives(server, client, wait=0.5)
        pods.enforce(server_admits(any_port=True))
        assert arrives(client, server, wait=5)
        assert arrives(server, client, wait=5)
