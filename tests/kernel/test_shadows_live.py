"""A candidate beside real traffic between two pods: it is counted, changes nothing, and is then enforced.

client ══ vclient ── node ── vserver ══ server
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from netpolicy.evidence import Cause, Shadow
from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import GenerationLabel, KernelDifference, Reason
from nodeagent.plan.generation import Generation
from tests.support.kernel_pods import CLIENT, SERVER, Pods, arrives, two_pods
from tests.support.server_policy import CLIENT_ID, REFUSED, SERVER_ID, server_admits

pytestmark = pytest.mark.kernel

FLOWS_A_SENDER = 500
SENDERS = 4


@pytest.fixture(scope="module")
def world() -> Iterator[Pods]:
    with two_pods() as pods:
        yield pods


@pytest.fixture
def pods(world: Pods) -> Pods:
    world.datapath.set_shadows(candidate=None, preview=None)
    world.enforce(server_admits(everyone=True))
    world.place()
    return world


def shadow(pods: Pods, generation: Generation) -> int:
    label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=2)
    slot = pods.datapath.fill(generation, label=label)
    pods.datapath.set_shadows(candidate=slot, preview=None)
    return slot


def would_deny(pods: Pods, protocol: Protocol, port: int) -> list[KernelDifference]:
    found = pods.datapath.read_differences(Shadow.CANDIDATE)
    assert {
        (
            one.source_identity,
            one.destination_identity,
            one.direction,
            one.cause,
            one.reason,
            one.cookie,
        )
        for one in found
    } <= {(CLIENT, SERVER, Direction.INGRESS, Cause.WOULD_DENY, Reason.POLICY_DENIED, REFUSED)}
    return [one for one in found if (one.protocol, one.port) == (protocol, port)]


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_an_open_connection_is_counted_then_cut_by_promotion_and_goes_on_after_rollback(
    pods: Pods, address: str
) -> None:
    with pods.listen(address, 8100) as listener, pods.connect(address, 8100) as client:
        server, _ = listener.accept()
        with server:
            assert arrives(client, server, b"before")
            candidate = shadow(pods, server_admits(everyone=False))
            for data in (b"one", b"two", b"three"):
                assert arrives(client, server, data)
                assert arrives(server, client, data)
            (difference,) = would_deny(pods, Protocol.TCP, 8100)
            assert difference.count == 1
            stable = pods.datapath.control().active
            assert stable is not None
            pods.datapath.activate(candidate)
            assert not arrives(client, server, b"during")
            pods.datapath.activate(stable)
            assert select.select([server], [], [], 10)[0], "the cut flow goes on once allowed"


def test_every_new_flow_of_concurrent_senders_is_counted(pods: Pods) -> None:
    """Nobody reads the events meanwhile: counts do not depend on them."""
    server = pods.within("server", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with server:
        server.bind(("10.0.0.2", 0))
        port = server.getsockname()[1]
        shadow(pods, server_admits(everyone=False))

        def send(_: int) -> None:
            for _ in range(FLOWS_A_SENDER):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                    one.sendto(b"x", ("10.0.0.2", port))

        def all_send() -> None:
            with ThreadPoolExecutor(max_workers=SENDERS) as threads:
                list(threads.map(send, range(SENDERS)))

        pods.within("client", all_send)
        flows = [
            flow
            for flow in pods.datapath.read_conntrack()
            if (flow.endpoint_id, flow.protocol, flow.local_port) == (SERVER_ID, Protocol.UDP, port)
        ]
        sent = sum(flow.forward_packets for flow in flows)
    assert sent == FLOWS_A_SENDER * SENDERS
    (difference,) = would_deny(pods, Protocol.UDP, port)
    coverage = pods.datapath.read_coverage(Shadow.CANDIDATE)
    assert difference.count == coverage[SERVER_ID] == coverage[CLIENT_ID] == len(flows)
    assert len(flows) > FLOWS_A_SENDER, "source ports may come again, but not often"
