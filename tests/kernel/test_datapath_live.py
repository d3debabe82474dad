"""Real connections between two pods, through the attached programs.

client ══ vclient ── node ── vserver ══ server
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Datapath, FlowEvent, Reason, ensure_loaded
from tests.support.kernel_pods import CLIENT, SERVER, Pods, arrives, two_pods
from tests.support.server_policy import ALLOWED, REFUSED, server_admits

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def world() -> Iterator[Pods]:
    with two_pods() as pods:
        yield pods


@pytest.fixture
def pods(world: Pods) -> Pods:
    world.enforce(server_admits(everyone=True))
    world.place()
    return world


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_a_revoke_refuses_new_connections_and_cuts_the_established_one(
    pods: Pods, address: str
) -> None:
    with pods.listen(address, 8000) as listener, pods.connect(address, 8000) as client:
        server, _ = listener.accept()
        with server:
            assert arrives(client, server, b"before")
            pods.enforce(server_admits(everyone=False))
            assert not arrives(client, server, b"during")
            assert not arrives(server, client, b"back")
            assert not pods.can_connect(address, 8000)
            pods.enforce(server_admits(everyone=True))
            assert pods.can_connect(address, 8000)
            assert select.select([server], [], [], 10)[0], "the cut flow goes on once allowed"


def test_a_large_transfer_passes_whole(pods: Pods) -> None:
    """Segments merged by the kernel are read like others."""
    size = 8_000_000
    with pods.listen("10.0.0.2", 8001) as listener, pods.connect("10.0.0.2", 8001) as client:
        server, _ = listener.accept()
        sender = threading.Thread(target=lambda: (client.sendall(bytes(size)), client.close()))
        sender.start()
        with server:
            received = 0
            while chunk := server.recv(1 << 20):
                received += len(chunk)
        sender.join()
    assert received == size


def test_a_denied_connection_is_told_with_its_ends_and_its_cookie(pods: Pods) -> None:
    reader = pods.datapath.events()
    try:
        pods.enforce(server_admits(everyone=False))
        reader.read()
        assert not pods.can_connect("10.0.0.2", 8002)
        event = wait_for_event(reader.fileno(), reader.read, lambda e: e.reason != 0)
    finally:
        reader.close()
    assert (event.source, event.destination, event.destination_port) == (
        "10.0.0.1", "10.0.0.2", 8002,
    )  # fmt: skip
    assert event.reason == Reason.POLICY_DENIED
    assert event.cookie == REFUSED
    assert event.direction is Direction.INGRESS
    assert event.protocol == Protocol.TCP
    assert (event.local_identity, event.remote_identity) == (SERVER, CLIENT)
    assert event.revision == pods.datapath.control().revision


def wait_for_event(fd, read, wanted) -> FlowEvent:  # type: ignore[no-untyped-def]
    """The first event of a kind, as it comes."""
    for _ in range(50):
        for event in read():
            if wanted(event):
                return event
        select.select([fd], [], [], 0.2)
    raise AssertionError("no such event came")


def test_a_pod_that_takes_anothers_address_is_dropped(pods: Pods) -> None:
    before = pods.datapath.counters().drops.get((Reason.INVALID_SOURCE_IP, Direction.EGRESS), 0)

    def send_as_other() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            head = bytes.fromhex("4500001c00000000401100000a000063") + socket.inet_aton("10.0.0.2")
            raw.sendto(head + bytes.fromhex("0fa0003500080000"), ("10.0.0.2", 0))

    pods.within("client", send_as_other)
    after = pods.datapath.counters().drops[(Reason.INVALID_SOURCE_IP, Direction.EGRESS)]
    assert after == before + 1


def test_attached_programs_are_those_that_are_pinned(pods: Pods) -> None:
    pods.place()
    found = pods.within("node", pods.datapath.attached)
    wanted = pods.datapath.program_ids()
    assert len(found) == 4
    assert all(one.program_id == wanted[one.direction] for one in found)


def test_the_agents_death_and_return_changes_nothing_for_a_connection(pods: Pods) -> None:
    with pods.listen("10.0.0.2", 8003) as listener, pods.connect("10.0.0.2", 8003) as client:
        server, _ = listener.accept()
        with server:
            assert ensure_loaded(pods.config) == "adopted"
            successor = Datapath.open(pods.config)
            try:
                assert successor.control() == pods.datapath.control()
                ifindex = pods.ifindex("vserver")
                pods.within("node", lambda: successor.attach(ifindex))
                assert arrives(client, server, b"still here")
            finally:
                successor.close()


@pytest.mark.slow
def test_no_packet_is_judged_by_a_mixture_of_two_generations(pods: Pods) -> None:
    """Each generation allows one port and names it by its cookie: an allowed datagram's event must
    bear the cookie of the very revision it was judged under, and no datagram, which all
    generations allow, may be refused."""
    cookies: dict[int, int] = {}
    reader = pods.datapath.events()
    server = pods.within("server", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("10.0.0.2", 0))
    port = server.getsockname()[1]
    done = threading.Event()
    sent = [0]

    def send() -> None:
        while not done.is_set():
            with pods.within(
                "client", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            ) as one:
                for _ in range(20):
                    one.sendto(b"x", ("10.0.0.2", port))
                    sent[0] += 1

    cookies[pods.datapath.control().revision] = ALLOWED
    reader.read()
    sender = threading.Thread(target=send)
    sender.start()
    events = []
    try:
        deadline = time.monotonic() + 3
        cookie = 1000
        while time.monotonic() < deadline:
            cookie += 1
            pods.enforce(server_admits(everyone=True, cookie=cookie))
            cookies[pods.datapath.control().revision] = cookie
            events += reader.read()
    finally:
        done.set()
        sender.join()
        events += reader.read()
        reader.close()
    judged = [e for e in events if e.endpoint_id == 2 and e.protocol == Protocol.UDP]
    assert len(judged) > 100
    assert len({event.revision for event in judged}) > 5
    assert [e for e in judged if e.reason or e.cookie != cookies[e.revision]] == []
    server.setblocking(False)
    received = 0
    try:
        while server.recv(10):
            received += 1
    except BlockingIOError:
        server.close()
    assert received > 0
