"""What may go wrong between two nodes that encrypt, and what a tap on their link sees meanwhile.

frontend ── node-a ══════ tap ══════ node-b ── api-gateway
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from demo.outcome import Outcome
from demo.workload_commands import serve_command
from netpolicy.encryption import Encryption
from netpolicy.errors import StalledError
from netpolicy.rules import Direction
from nodeagent.wireguard.devices import TunnelLinks
from tests.support.asked_datagrams import Asker, asking
from tests.support.forged_datagrams import forge
from tests.support.kernel_pods import within
from tests.support.steady_datagrams import Datagrams, steady_datagrams
from tests.support.tap import tap
from tests.support.tunnel_probes import (
    CLIENT,
    LARGE_BYTES,
    SERVER,
    all_are,
    encrypt,
    end_tunnels,
    is_in_kernel,
    refused,
    transfer,
    translating,
)
from tests.support.tunnel_world import NORMAL, SERVICE, STRICT, TunnelNodes
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

OVER_IPV6 = 1420

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture(scope="module")
def nodes() -> Iterator[TunnelNodes]:
    with World(ECOMMERCE) as world:
        for pod in (CLIENT, SERVER):
            world.start(f"serve-{pod.name}", pod.name, serve_command(pod))
        yield TunnelNodes(world)


def ends(nodes: TunnelNodes) -> tuple[str, str]:
    return nodes.world.namespace(CLIENT.name), nodes.world.namespace(SERVER.name)


def wait_for_more(nodes: TunnelNodes, datagrams: Datagrams) -> None:
    enough = len(datagrams.came) + 50
    nodes.world.wait_for("datagrams arrive", lambda: len(datagrams.came) > enough, timeout=30)


def wait_for_refusals(nodes: TunnelNodes) -> None:
    before = refused(nodes, "node-a", Direction.EGRESS)
    nodes.world.wait_for(
        "some are refused", lambda: refused(nodes, "node-a", Direction.EGRESS) > before + 10
    )


def lose(nodes: TunnelNodes, node: str) -> None:
    """Its agent and its tunnels die at once."""
    nodes.world.kill(node)
    end_tunnels(nodes, node)
    nodes.world.wait_for("its tunnels are gone", lambda: nodes.devices(node) == [])


def test_a_node_that_leaves_and_joins_again_shows_nothing_in_strict_mode(
    nodes: TunnelNodes,
) -> None:
    encrypt(nodes)
    with tap(nodes.world, "node-a") as seen, steady_datagrams(*ends(nodes), SERVER.v4) as datagrams:
        wait_for_more(nodes, datagrams)
        gone = nodes.entries(without="node-b")
        nodes.tell("node-a", mode="strict", settings=STRICT, node_keys=[], entries=gone)
        nodes.wait("node-a", "it has no peer", lambda report: report["peers"] == 0)
        wait_for_refusals(nodes)
        nodes.tell("node-a", mode="strict", settings=STRICT, entries=nodes.entries())
        nodes.exchange_keys(settings=STRICT, mode="strict")
        wait_for_more(nodes, datagrams)
    assert seen.in_the_clear == []


@pytest.mark.parametrize(("mode", "settings"), [("strict", STRICT), ("on", NORMAL)])
def test_a_peer_that_is_lost_and_comes_back_shows_nothing(
    nodes: TunnelNodes, mode: str, settings: Encryption
) -> None:
    encrypt(nodes, mode=mode, settings=settings)
    with tap(nodes.world, "node-a") as seen, steady_datagrams(*ends(nodes), SERVER.v4) as datagrams:
        wait_for_more(nodes, datagrams)
        lose(nodes, "node-b")
        nodes.world.wait_for("pods are cut off", lambda: not all_are(nodes, Outcome.ANSWERED))
        nodes.start("node-b")
        wait_for_more(nodes, datagrams)
        nodes.world.wait_for("pods talk again", lambda: all_are(nodes, Outcome.ANSWERED))
    assert seen.in_the_clear == []


def test_without_strict_mode_a_pod_that_the_feed_has_not_told_of_is_sent_to_in_the_clear(
    nodes: TunnelNodes,
) -> None:
    encrypt(nodes, mode="on", settings=NORMAL)
    untold = nodes.entries(without=SERVER.name)
    nodes.tell("node-a", mode="on", settings=NORMAL, entries=untold)
    with steady_datagrams(*ends(nodes), SERVER.v4):
        with tap(nodes.world, "node-a") as seen:
            nodes.world.wait_for("it is sent to in the clear", lambda: bool(seen.in_the_clear))
        nodes.tell("node-a", mode="on", settings=NORMAL, entries=nodes.entries())
        nodes.world.wait_for("it is told of", lambda: is_dark(nodes))


def mtus(nodes: TunnelNodes) -> set[int]:
    """Of every tunnel of node-a: there are several while a key changes."""
    links = json.loads(nodes.world.run("node-a", ["ip", "-j", "link"]).stdout)
    return {link["mtu"] for link in links if link["ifname"].startswith("tidegate_wg")}


def is_dark(nodes: TunnelNodes) -> bool:
    with tap(nodes.world, "node-a") as seen:
        nodes.world.wait_for("something passes", lambda: bool(seen.tunnelled or seen.in_the_clear))
    return not seen.in_the_clear


def test_without_a_tun_device_what_was_encrypted_still_is_and_a_clear_error_says_why(
    nodes: TunnelNodes,
) -> None:
    if is_in_kernel(nodes):
        pytest.skip("the kernel makes the tunnels: no TUN device is asked for")
    encrypt(nodes)
    nodes.world.kill("node-a")
    with tap(nodes.world, "node-a") as seen:
        nodes.start("node-a", has_tun=False)
        assert all_are(nodes, Outcome.ANSWERED)
        nodes.rotate("node-a")  # which takes another device
        nodes.wait("node-a", "it says so", lambda report: "load the tun module" in report["error"])
        assert all_are(nodes, Outcome.ANSWERED)
        nodes.world.kill("node-a")
        nodes.start("node-a")
        nodes.wait("node-a", "it says so no more", lambda report: report["error"] == "")
    assert seen.in_the_clear == []


def test_an_answer_forged_on_the_link_reaches_no_pod_of_a_strict_node(nodes: TunnelNodes) -> None:
    encrypt(nodes, mode="on", settings=NORMAL)
    with translating(nodes), ExitStack() as open_until_the_end:
        forged = []
        for server, service in zip(SERVER.addresses, SERVICE, strict=True):
            for asked in (server, service):
                asker = open_until_the_end.enter_context(asking(nodes, server, at=asked))
                # What answers for a service is its pod, on the link; or somebody says it is the service.
                forged += [(asker, source) for source in {server, asked}]
        for asker, source in forged:
            forge_answer(nodes, asker, source)
            assert asker.hears(b"forged")
        encrypt(nodes)
        for asker, source in forged:
            asker.heard.clear()
            nodes.world.wait_for(
                f"{source} is refused to {asker.at}'s client",
                lambda asker=asker, source=source: is_refused(nodes, asker, source),
                timeout=60,
            )
            nodes.world.wait_for("the next answer comes", asker.is_answered)
            assert b"forged" not in asker.heard


def is_refused(nodes: TunnelNodes, asker: Asker, source: str) -> bool:
    """Forge an answer; True if one more was dropped as unencrypted by when the next true one came."""
    before = refused(nodes, "node-a", Direction.INGRESS)
    forge_answer(nodes, asker, source)
    nodes.world.wait_for("the next answer comes", asker.is_answered)
    return refused(nodes, "node-a", Direction.INGRESS) > before


def forge_answer(nodes: TunnelNodes, asker: Asker, source: str) -> None:
    """Have somebody on the link say something in another's name, to who lately had an answer."""
    nodes.world.wait_for(f"{asker.at} answers", asker.is_answered, timeout=60)
    forge(
        nodes.world,
        sender="node-b",
        source=(source, asker.asked_port),
        destination=asker.own,
        data=b"forged",
    )


def test_a_fragment_in_the_clear_is_not_put_together_with_what_came_out_of_a_tunnel(
    nodes: TunnelNodes,
) -> None:
    encrypt(nodes)
    before = refused(nodes, "node-a", Direction.INGRESS)
    forge(
        nodes.world,
        sender="node-b",
        source=(SERVER.v4, 7790),
        destination=(CLIENT.v4, 7790),
        data=bytes(8),
        is_cut=True,
    )
    # At once: a first fragment alone would wait for the others.
    nodes.world.wait_for(
        "it is refused", lambda: refused(nodes, "node-a", Direction.INGRESS) > before
    )


def test_without_leave_to_fall_back_only_the_kernel_makes_a_tunnel(nodes: TunnelNodes) -> None:
    links = TunnelLinks()

    def make() -> str:
        try:
            return links.ensure("tidegate_wg3", userspace_fallback=False)[1]
        except StalledError as error:
            return str(error)

    made = within(nodes.world.namespace(SERVER.name), make)
    within(nodes.world.namespace(SERVER.name), lambda: links.remove("tidegate_wg3"))
    refused_why = "this kernel has no WireGuard, and userspaceFallback is off"
    assert made == ("kernel" if is_in_kernel(nodes) else refused_why)


def test_a_strict_node_whose_machine_starts_anew_refuses_until_its_tunnels_are_back(
    nodes: TunnelNodes,
) -> None:
    if is_in_kernel(nodes):
        pytest.skip("the kernel makes the tunnels: a missing TUN device keeps none away")
    encrypt(nodes)
    lose(nodes, "node-a")
    shutil.rmtree(nodes.world.bpffs / "node-a")
    nodes.world.run("node-a", ["ip", "rule", "del", "priority", "511"])
    nodes.world.run("node-a", ["ip", "-6", "rule", "del", "priority", "511"])
    nodes.start("node-a", has_tun=False)
    nodes.wait("node-a", "it cannot", lambda report: "tun" in report["error"])
    with tap(nodes.world, "node-a") as seen:
        assert not all_are(nodes, Outcome.ANSWERED)
        nodes.world.kill("node-a")
        nodes.start("node-a")
        nodes.world.wait_for("pods talk again", lambda: all_are(nodes, Outcome.ANSWERED))
    assert seen.in_the_clear == []


def test_nodes_that_reach_each_other_over_ipv6_alone_encrypt_as_well(nodes: TunnelNodes) -> None:
    encrypt(nodes)
    for node in ECOMMERCE.nodes:
        own = [node.link_v6]
        lose(nodes, node.name)
        nodes.tell(node.name, mode="strict", settings=STRICT, node_addresses=own)
        nodes.start(node.name)  # its new devices get no IPv4 address of the node
        nodes.wait(
            node.name,
            "it announces that",
            lambda report, own=own: report["keys"][0]["addresses"] == own,
        )
    with tap(nodes.world, "node-a") as seen:
        encrypt(nodes)
        nodes.world.wait_for("the longer header has room", lambda: mtus(nodes) == {OVER_IPV6})
        for address in SERVER.addresses:
            assert transfer(nodes, address) == LARGE_BYTES
    assert seen.in_the_clear == []
    assert seen.tunnelled * 1500 > LARGE_BYTES
