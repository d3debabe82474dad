"""Two nodes encrypt what their pods say to each other; a tap on the link between them is the judge.

frontend ── node-a ══════ tap ══════ node-b ── api-gateway
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from demo.outcome import Outcome
from demo.workload_commands import serve_command
from netpolicy.encryption import MIN_ROTATION_SECONDS, PORTS
from netpolicy.flow import Occasion
from netpolicy.rules import Direction
from tests.support.kernel_pods import within
from tests.support.steady_datagrams import steady_datagrams
from tests.support.tap import tap
from tests.support.tunnel_probes import (
    CLIENT,
    LARGE_BYTES,
    SERVER,
    all_are,
    connects,
    encrypt,
    end_tunnels,
    is_in_kernel,
    kube_proxy,
    listening,
    refused,
    told_of,
    transfer,
    translating,
    wireguard_go,
)
from tests.support.tunnel_world import NORMAL, OUTSIDE_PORT, SERVICE, STRICT, TunnelNodes
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NODES = ("node-a", "node-b")
TO_BE_MASQUERADED = "meta mark set mark or 0x4000"
"""kube-proxy's mark, which is set while the packet's way is looked up."""
MASQUERADE = (
    "add rule inet kube-proxy postrouting mark and 0x4000 != 0"
    " meta mark set mark xor 0x4000 masquerade"
)
MASQUERADING = (
    f"insert rule inet kube-proxy prerouting ip daddr {SERVICE[0]} {TO_BE_MASQUERADED}",
    f"insert rule inet kube-proxy prerouting ip6 daddr {SERVICE[1]} {TO_BE_MASQUERADED}",
    MASQUERADE,
)
LOCAL_PORT = 9
LOST_AT_MOST = 1000
"""Datagrams of two seconds: a peer that is not told where the other went is cut off for fifteen and more."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[TunnelNodes]:
    with World(ECOMMERCE) as world:
        for pod in (CLIENT, SERVER):
            world.start(f"serve-{pod.name}", pod.name, serve_command(pod))
        found = TunnelNodes(world)
        yield found


def test_without_strict_mode_a_node_without_key_is_sent_to_in_the_clear(nodes: TunnelNodes) -> None:
    nodes.tell_all(mode="on", settings=NORMAL, node_keys=[])
    nodes.start_all()
    with tap(nodes.world, "node-a") as seen:
        nodes.world.wait_for("pods talk", lambda: all_are(nodes, Outcome.ANSWERED))
    assert seen.in_the_clear
    nodes.exchange_keys(settings=NORMAL, mode="on")
    with tap(nodes.world, "node-a") as seen:
        assert all_are(nodes, Outcome.ANSWERED)
    assert seen.in_the_clear == []


def test_pods_talk_through_the_tunnel_and_nothing_of_it_is_in_the_clear(nodes: TunnelNodes) -> None:
    with tap(nodes.world, "node-a") as seen:
        encrypt(nodes)
        for address in SERVER.addresses:
            assert transfer(nodes, address) == LARGE_BYTES
    assert seen.in_the_clear == []
    assert seen.tunnelled * 1500 > LARGE_BYTES
    report = nodes.report("node-a")
    assert (report["implementation"], report["mode"], report["error"]) == (
        "kernel" if is_in_kernel(nodes) else "userspace",
        "strict",
        "",
    )


def test_keys_change_by_age_and_by_command_and_no_datagram_is_lost_or_shown(
    nodes: TunnelNodes,
) -> None:
    settings = replace(STRICT, rotation_seconds=MIN_ROTATION_SECONDS)
    encrypt(nodes, settings=settings)
    before = {node: public_keys(nodes, node) for node in NODES}
    ends = nodes.world.namespace(CLIENT.name), nodes.world.namespace(SERVER.name)
    with tap(nodes.world, "node-a") as seen, steady_datagrams(*ends, SERVER.v4) as datagrams:
        nodes.world.kill("node-b")
        nodes.age_keys("node-b", MIN_ROTATION_SECONDS)
        nodes.start("node-b")
        nodes.wait("node-b", "it makes a key by itself", lambda report: len(report["keys"]) == 2)
        assert public_keys(nodes, "node-a") == before["node-a"]
        nodes.rotate("node-a")
        nodes.wait("node-a", "it has two keys", lambda report: len(report["keys"]) == 2)
        private = [key for node in NODES for key in nodes.private_keys(node)]
        nodes.exchange_keys(settings=settings, mode="strict")
        for node in NODES:
            nodes.wait(node, "the old key is gone", lambda report: len(report["keys"]) == 1)
        nodes.exchange_keys(settings=settings, mode="strict")
        for node in NODES:
            nodes.world.wait_for(
                "one pair is left",
                lambda node=node: len(nodes.devices(node)) == 1,
                timeout=60,
            )
    for node in NODES:
        assert not set(before[node]) & set(public_keys(nodes, node))
    assert datagrams.sent > 1000
    assert datagrams.lost == []
    assert seen.in_the_clear == []
    assert len(set(private)) == 4
    logs = [nodes.world.log_path(node).read_text() for node in NODES]
    assert not [key for key in private if any(key in log for log in logs)]


def public_keys(nodes: TunnelNodes, node: str) -> list[str]:
    return [key["public_key"] for key in nodes.report(node)["keys"]]


def test_a_killed_wireguard_go_is_started_again_and_meanwhile_nothing_is_in_the_clear(
    nodes: TunnelNodes,
) -> None:
    if is_in_kernel(nodes):
        pytest.skip("the kernel makes the tunnels: there is no process to kill")
    encrypt(nodes)
    with tap(nodes.world, "node-a") as seen:
        for node in NODES:
            (killed,) = wireguard_go(nodes, node)
            os.kill(killed, signal.SIGKILL)
            nodes.world.wait_for(
                "another runs",
                lambda node=node, killed=killed: wireguard_go(nodes, node) not in ([], [killed]),
                timeout=4.0,
            )
        nodes.world.wait_for("pods talk again", lambda: all_are(nodes, Outcome.ANSWERED))
    assert seen.in_the_clear == []


def test_a_dead_agent_leaves_the_tunnel_and_strict_mode_and_the_next_one_takes_them_over(
    nodes: TunnelNodes,
) -> None:
    encrypt(nodes)
    with tap(nodes.world, "node-a") as seen:
        nodes.world.kill("node-a")
        assert all_are(nodes, Outcome.ANSWERED)
        end_tunnels(nodes, "node-a")
        nodes.world.wait_for(
            "without the tunnel nothing passes", lambda: not all_are(nodes, Outcome.ANSWERED)
        )
        nodes.start("node-a")
        nodes.world.wait_for("pods talk again", lambda: all_are(nodes, Outcome.ANSWERED))
    assert seen.in_the_clear == []


def test_an_address_that_nobody_knows_is_not_taken_for_the_worlds(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    nodes.world.run("node-a", ["ip", "route", "add", "10.2.9.9", "via", "192.168.77.2"])
    before = refused(nodes, "node-a", Direction.EGRESS)
    with tap(nodes.world, "node-a") as seen:
        sender = within(
            nodes.world.namespace(CLIENT.name), lambda: socket.socket(type=socket.SOCK_DGRAM)
        )
        with sender:
            for _ in range(5):
                sender.sendto(b"anybody there?", ("10.2.9.9", 9))
    assert seen.in_the_clear == []
    assert refused(nodes, "node-a", Direction.EGRESS) > before


def test_what_wrong_routes_lead_to_an_uplink_ends_there(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    before = refused(nodes, "node-a", Direction.EGRESS)
    with tap(nodes.world, "node-a") as seen, without_rule(nodes, 511):
        assert not all_are(nodes, Outcome.ANSWERED)
    assert seen.in_the_clear == []
    assert refused(nodes, "node-a", Direction.EGRESS) > before
    nodes.world.wait_for("the rules are back", lambda: all_are(nodes, Outcome.ANSWERED))


@contextmanager
def without_rule(nodes: TunnelNodes, priority: int) -> Iterator[None]:
    """A routing rule of node-a is gone, and its agent asleep: awake, it would have it back any moment."""
    agent = nodes.world.process("node-a")
    agent.send_signal(signal.SIGSTOP)
    try:
        for family in ("-4", "-6"):
            nodes.world.run("node-a", ["ip", family, "rule", "del", "priority", str(priority)])
        yield
    finally:
        agent.send_signal(signal.SIGCONT)


def wait_until_the_service_answers(nodes: TunnelNodes) -> None:
    nodes.world.wait_for(
        "it answers", lambda: all_are(nodes, Outcome.ANSWERED, SERVICE), timeout=40
    )


def test_a_service_leads_into_the_tunnel_and_in_the_clear_nowhere(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    with tap(nodes.world, "node-a") as seen:
        with translating(nodes):
            wait_until_the_service_answers(nodes)
            with without_rule(nodes, 510):
                assert not all_are(nodes, Outcome.ANSWERED, SERVICE)
            wait_until_the_service_answers(nodes)
        before = refused(nodes, "node-a", Direction.EGRESS)
        # The node's own address as the source: only the mark tells that a pod sent it.
        with translating(nodes, *MASQUERADING):
            assert not all_are(nodes, Outcome.ANSWERED, SERVICE)
        assert refused(nodes, "node-a", Direction.EGRESS) > before
    assert (seen.in_the_clear, seen.ports_in_the_clear) == ([], set())


def test_flows_to_a_service_say_whether_they_are_encrypted_from_their_first_packet_on(
    nodes: TunnelNodes,
) -> None:
    encrypt(nodes)
    (here,) = (pod for pod in ECOMMERCE.pods_on(CLIENT.node) if pod != CLIENT)
    local = f"ip daddr {SERVICE[0]} udp dport {LOCAL_PORT} dnat ip to {here.v4}"

    def ask() -> None:
        asker = within(
            nodes.world.namespace(CLIENT.name), lambda: socket.socket(type=socket.SOCK_DGRAM)
        )
        with asker:
            asker.sendto(b"anybody here?", (SERVICE[0], LOCAL_PORT))
        wait_until_the_service_answers(nodes)

    with translating(nodes, f"insert rule inet kube-proxy prerouting {local}"):
        wait_until_the_service_answers(nodes)
        told = told_of(nodes, "node-a", ask)
    flows = [flow for flow in told if {flow.source, flow.destination} & {*SERVICE}]
    for address in SERVICE:
        occasions = {flow.occasion for flow in flows if flow.destination == address}
        assert {Occasion.NEW, Occasion.FLAGS} <= occasions
    ends = {(flow.destination_port, flow.source_port, flow.encrypted) for flow in flows}
    assert {encrypted for *ports, encrypted in ends if LOCAL_PORT not in ports} == {True}
    assert {encrypted for *ports, encrypted in ends if LOCAL_PORT in ports} == {False}


def test_a_strict_node_refuses_what_another_sends_in_the_clear(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    nodes.tell("node-b", mode="off", settings=STRICT)
    nodes.world.wait_for("it has no tunnel", lambda: nodes.devices("node-b") == [])
    ends = nodes.world.namespace(SERVER.name), nodes.world.namespace(CLIENT.name)
    with steady_datagrams(*ends, CLIENT.v4) as datagrams:
        nodes.world.wait_for(
            "some are refused", lambda: refused(nodes, "node-a", Direction.INGRESS) > 10
        )
    assert datagrams.came == set()


def test_a_node_port_elsewhere_leads_to_no_pod_of_a_strict_node_in_the_clear(
    nodes: TunnelNodes,
) -> None:
    address = nodes.world.topology.nodes[1].link_v4
    port = (
        f"add rule inet kube-proxy prerouting ip daddr {address} tcp dport {SERVER.port}"
        f" {TO_BE_MASQUERADED} dnat ip to {SERVER.v4}"
    )
    encrypt(nodes, mode="on", settings=NORMAL)
    with kube_proxy(nodes, "node-b", port, MASQUERADE):
        nodes.world.wait_for(
            "it answers without strict mode",
            lambda: all_are(nodes, Outcome.ANSWERED, (address,)),
        )
        encrypt(nodes)
        before = refused(nodes, "node-b", Direction.INGRESS)
        assert not all_are(nodes, Outcome.ANSWERED, (address,))
        assert refused(nodes, "node-b", Direction.INGRESS) > before


def listens(nodes: TunnelNodes, node: str, port: int) -> bool:
    """On any of the ports from `port` on: which one is told by the slots that its keys are in."""
    these = f"( sport >= :{port} and sport < :{port + PORTS} )"
    return bool(nodes.world.run(node, ["ss", "-Hlun", these]).stdout)


def test_a_port_changes_under_traffic_and_no_connection_notices(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    moved = replace(STRICT, port=52100)
    ends = nodes.world.namespace(CLIENT.name), nodes.world.namespace(SERVER.name)
    with tap(nodes.world, "node-a") as seen, steady_datagrams(*ends, SERVER.v4) as datagrams:
        for node in reversed(NODES):
            nodes.tell(node, mode="strict", settings=moved)
            nodes.world.wait_for(
                f"{node} moves", lambda node=node: listens(nodes, node, moved.port), timeout=40
            )
            enough = len(datagrams.came) + 300
            nodes.world.wait_for(
                "datagrams arrive", lambda enough=enough: len(datagrams.came) > enough
            )
        nodes.exchange_keys(settings=moved, mode="strict")
        enough = len(datagrams.came) + 300
        nodes.world.wait_for("they go on", lambda: len(datagrams.came) > enough)
    assert len(datagrams.lost) < LOST_AT_MOST
    assert seen.in_the_clear == []
    for node in NODES:
        assert listens(nodes, node, moved.port), nodes.report(node)
    # Both at once: neither can tell the other by a packet, so the keys' way has to.
    nodes.tell_all(mode="strict", settings=STRICT)
    nodes.exchange_keys(settings=STRICT, mode="strict")
    nodes.world.wait_for("pods talk again", lambda: all_are(nodes, Outcome.ANSWERED))


def test_a_taken_port_is_said_and_what_was_there_stays(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    name = nodes.world.namespace("node-a")
    with ExitStack() as held:
        for port in range(52000, 52000 + PORTS):
            taken = within(name, lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            held.enter_context(taken).bind(("::", port))
        nodes.tell("node-a", mode="strict", settings=replace(STRICT, port=52000))
        nodes.wait("node-a", "it says so", lambda report: "is taken" in report["error"])
        assert all_are(nodes, Outcome.ANSWERED)
    nodes.tell("node-a", mode="strict", settings=STRICT)


def test_with_node_traffic_nothing_that_nodes_say_is_in_the_clear_but_to_the_reconciler(
    nodes: TunnelNodes,
) -> None:
    settings = replace(STRICT, node_traffic=True)
    encrypt(nodes, settings=settings)
    there = nodes.world.topology.nodes[1]
    with ExitStack() as held:
        for address in (there.link_v4, there.link_v6):
            for port in (7001, OUTSIDE_PORT):
                held.enter_context(listening(nodes, "node-b", address, port))
        with tap(nodes.world, "node-a") as seen:
            for address in (there.link_v4, there.link_v6, *SERVER.addresses):
                port = SERVER.port if address in SERVER.addresses else 7001
                nodes.world.wait_for(
                    f"the host of node-a reaches {address}",
                    lambda address=address, port=port: connects(nodes, "node-a", address, port),
                )
            assert all_are(nodes, Outcome.ANSWERED)
        assert seen.ports_in_the_clear == set()
        assert seen.in_the_clear == []
        with tap(nodes.world, "node-a") as seen:
            for address in (there.link_v4, there.link_v6):
                assert connects(nodes, "node-a", address, OUTSIDE_PORT)
        assert seen.ports_in_the_clear == {OUTSIDE_PORT}
        # While it is rolled out some do so, and others do not yet.
        nodes.tell("node-b", mode="strict", settings=STRICT)
        nodes.world.wait_for("node-b does so no more", lambda: not leads_all(nodes, "node-b"))
        nodes.world.wait_for(
            "they speak nonetheless", lambda: connects(nodes, "node-a", there.link_v4, 7001)
        )
    encrypt(nodes)
    with (
        tap(nodes.world, "node-a") as seen,
        listening(nodes, "node-b", there.link_v4, 7001),
    ):
        nodes.world.wait_for(
            "nodes speak in the clear again",
            lambda: connects(nodes, "node-a", there.link_v4, 7001),
        )
    assert 7001 in seen.ports_in_the_clear


def leads_all(nodes: TunnelNodes, node: str) -> bool:
    """True if a rule leads whatever a node sends into its tunnels."""
    return "513:" in nodes.world.run(node, ["ip", "rule"]).stdout


def test_with_node_traffic_a_pods_packets_are_encrypted_under_its_nodes_address_and_to_nodes(
    nodes: TunnelNodes,
) -> None:
    encrypt(nodes, settings=replace(STRICT, node_traffic=True))
    with tap(nodes.world, "node-a") as seen:
        with translating(nodes, *MASQUERADING):
            wait_until_the_service_answers(nodes)
        before = refused(nodes, "node-a", Direction.EGRESS)
        sender = within(
            nodes.world.namespace(CLIENT.name), lambda: socket.socket(type=socket.SOCK_DGRAM)
        )
        with without_rule(nodes, 511), without_rule(nodes, 513), sender:
            sender.sendto(b"in the clear?", (nodes.world.topology.nodes[1].link_v4, 7001))
            nodes.world.wait_for(
                "it is refused", lambda: refused(nodes, "node-a", Direction.EGRESS) > before
            )
    assert (seen.in_the_clear, seen.ports_in_the_clear) == ([], set())


def test_switched_off_it_leaves_nothing_and_pods_talk_as_before(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    nodes.tell_all(mode="off", settings=STRICT)
    for node in NODES:
        nodes.world.wait_for("no tunnel", lambda node=node: nodes.devices(node) == [])
    nodes.world.wait_for("pods talk", lambda: all_are(nodes, Outcome.ANSWERED))
    shown = nodes.world.run("node-a", ["ip", "rule"]).stdout
    shown += nodes.world.run(
        "node-a", ["ip", "route", "show", "table", "51871"], check=False
    ).stdout
    assert "51871" not in shown
    assert "unreachable" not in shown
    assert wireguard_go(nodes, "node-a") == []
