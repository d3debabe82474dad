"""HTTP between two pods through a real Envoy, steered by the programs alone.

client ══ vclient ── node: tgproxy0, Envoy ── vserver ══ server :80, where /private… is refused
"""

from __future__ import annotations

import http.client
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Reason
from nodeagent.datapath.abi_numbers import MARK_PROXY_TO_SERVER
from nodeagent.l7.device import device_faults, ensure_device, remove_device
from nodeagent.plan.generation import PolicyEntry, Verdict
from tests.support.redirect_world import (
    ADDRESSES,
    CLIENT_ID,
    HTTP_PORT,
    NODE_ADDRESS,
    OTHER_PORT,
    PROXY_PORT,
    RULED,
    SERVER_ID,
    Scene,
    abort,
    judged,
    redirecting,
    scene,
    status,
)

pytestmark = pytest.mark.kernel

EGRESS_PORT = 20_002
LISTENERS = (
    (PROXY_PORT, Direction.INGRESS),
    (OTHER_PORT, Direction.INGRESS),
    (EGRESS_PORT, Direction.EGRESS),
)
CLIENT_ADDRESSES = dict(zip(ADDRESSES, ("10.0.0.1", "fd00::1"), strict=True))
AGAIN_PORTS = {Direction.INGRESS: 45_001, Direction.EGRESS: 45_002}
HOST_ADDRESSES = dict(zip(ADDRESSES, ("169.254.1.1", NODE_ADDRESS), strict=True))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("envoy")) as made:
        made.pods.enforce(judged(Verdict.REDIRECT))
        made.pods.place()
        made.start_envoy(*LISTENERS)
        yield made


@pytest.fixture
def web(world: Scene) -> Scene:
    world.pods.enforce(judged(Verdict.REDIRECT))
    world.pods.datapath.clear_conntrack()
    world.web.asked.clear()
    return world


@pytest.fixture(params=[False, True], ids=["by the node", "directly"])
def either_way(web: Scene, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """What needs no proxy goes from pod to pod past the node's IP stack, or not."""
    if request.param:
        web.pods.deliver_directly()
    yield web
    web.pods.deliver_by_node()


@pytest.mark.parametrize("address", ADDRESSES)
def test_requests_into_a_pod_are_judged_and_both_ends_keep_their_addresses(
    either_way: Scene, address: str
) -> None:
    connection = either_way.connection(address)
    assert status(connection, "/") == 200
    assert connection.sock.getpeername()[:2] == (address, HTTP_PORT)
    assert status(connection, "/private") == 403
    assert either_way.web.asked == [(CLIENT_ADDRESSES[address], "/")]
    connection.close()


@pytest.mark.parametrize("address", ADDRESSES)
def test_requests_out_of_a_pod_are_judged_and_both_ends_keep_their_addresses(
    web: Scene, address: str
) -> None:
    web.pods.enforce(judged(Verdict.REDIRECT, port=EGRESS_PORT, direction=Direction.EGRESS))
    connection = web.connection(address)
    assert status(connection, "/") == 200
    assert connection.sock.getpeername()[:2] == (address, HTTP_PORT)
    assert status(connection, "/private") == 403
    assert web.web.asked == [(CLIENT_ADDRESSES[address], "/")]
    connection.close()


@pytest.mark.parametrize("address", ADDRESSES)
def test_requests_are_judged_on_their_way_out_and_again_on_their_way_in(
    either_way: Scene, address: str
) -> None:
    web = either_way
    web.start_envoy(*LISTENERS)  # anew: without connections that were made under other rules
    web.pods.enforce(
        redirecting(
            {
                (CLIENT_ID, Direction.EGRESS): PolicyEntry(Verdict.REDIRECT, RULED, EGRESS_PORT),
                (SERVER_ID, Direction.INGRESS): PolicyEntry(Verdict.REDIRECT, RULED, PROXY_PORT),
            }
        )
    )
    assert [web.get(address, path) for path in ("/", "/private", "/again")] == [200, 403, 200]
    flows = {
        (flow.endpoint_id, flow.direction)
        for flow in web.pods.datapath.read_conntrack()
        if flow.verdict is Verdict.REDIRECT
    }
    assert flows == {(CLIENT_ID, Direction.EGRESS), (SERVER_ID, Direction.INGRESS)}


@pytest.mark.parametrize("address", ADDRESSES)
def test_requests_of_the_node_itself_are_judged_too(web: Scene, address: str) -> None:
    assert web.get(address, "/", place="node") == 200
    assert web.get(address, "/private", place="node") == 403
    assert web.web.asked == [(HOST_ADDRESSES[address], "/")]


def test_a_new_revision_with_the_same_port_leaves_a_connection_as_it_is(web: Scene) -> None:
    connection = web.connection("10.0.0.2")
    ports = set()
    for _ in range(5):
        assert status(connection, "/") == 200
        ports.add(connection.sock.getsockname())
        web.pods.enforce(judged(Verdict.REDIRECT))
    assert len(ports) == 1
    connection.close()


def test_a_connection_whose_flow_goes_to_another_port_is_reset_and_the_next_one_passes(
    web: Scene,
) -> None:
    connection = web.connection("10.0.0.2")
    assert status(connection, "/before") == 200
    web.pods.enforce(judged(Verdict.REDIRECT, port=OTHER_PORT))
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        status(connection, "/during")
    connection.close()
    assert web.get("10.0.0.2", "/after") == 200
    assert [path for _, path in web.web.asked] == ["/before", "/after"]


@pytest.mark.parametrize("direction", list(Direction))
def test_a_plain_connection_that_is_to_be_judged_now_is_reset_once_and_leaks_no_request(
    either_way: Scene, direction: Direction
) -> None:
    web = either_way
    port = PROXY_PORT if direction is Direction.INGRESS else EGRESS_PORT
    web.pods.enforce(judged(Verdict.ALLOW, direction=direction))
    connection = web.connection("10.0.0.2")
    assert status(connection, "/private/before") == 200
    web.pods.enforce(judged(Verdict.REDIRECT, port=port, direction=direction))
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        status(connection, "/private/during")
    connection.close()
    assert web.get("10.0.0.2", "/private/after") == 403
    assert web.get("10.0.0.2", "/after") == 200
    assert [path for _, path in web.web.asked] == ["/private/before", "/after"]


def test_a_judged_connection_that_need_not_be_any_more_stays_with_the_proxy(web: Scene) -> None:
    connection = web.connection("10.0.0.2")
    assert status(connection, "/") == 200
    web.pods.enforce(judged(Verdict.ALLOW))
    assert status(connection, "/private") == 403
    assert web.get("10.0.0.2", "/private") == 200
    connection.close()


@pytest.mark.parametrize("direction", list(Direction))
def test_a_revoked_connection_is_cut_on_both_sides_of_the_proxy(
    web: Scene, direction: Direction
) -> None:
    port = PROXY_PORT if direction is Direction.INGRESS else EGRESS_PORT
    web.pods.enforce(judged(Verdict.REDIRECT, port=port, direction=direction))
    connection = web.connection("10.0.0.2")
    assert status(connection, "/") == 200
    web.pods.enforce(judged(Verdict.DENY, direction=direction))
    with pytest.raises(TimeoutError):
        status(connection, "/revoked")
    abort(connection)
    assert [path for _, path in web.web.asked] == ["/"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(("direction", "client_port"), AGAIN_PORTS.items())
def test_a_clients_port_serves_again_at_once_where_the_proxy_ended_its_connection(
    web: Scene, address: str, direction: Direction, client_port: int
) -> None:
    """The proxy's end waits a minute after it (TIME-WAIT), and must not keep the next one out so long."""
    port = PROXY_PORT if direction is Direction.INGRESS else EGRESS_PORT
    web.pods.enforce(judged(Verdict.REDIRECT, port=port, direction=direction))
    for _ in range(3):
        connection = web.pods.within("client", lambda: _connect_from(address, client_port))
        with connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
            assert answer.read().startswith(b"HTTP/1.1 200 ")  # to the end: the proxy's


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("first", Direction)
def test_a_clients_port_serves_again_at_once_when_the_flow_is_judged_at_its_other_end(
    web: Scene, address: str, first: Direction
) -> None:
    """The waiting socket bears the mark of the listener that it was of."""
    ports = {Direction.INGRESS: PROXY_PORT, Direction.EGRESS: EGRESS_PORT}
    for direction in (first, *(other for other in Direction if other is not first), first):
        web.pods.enforce(judged(Verdict.REDIRECT, port=ports[direction], direction=direction))
        connection = web.pods.within("client", lambda: _connect_from(address, 45_003 + first))
        with connection, connection.makefile("rb") as answer:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
            assert answer.read().startswith(b"HTTP/1.1 200 ")


def _connect_from(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.settimeout(10)
    made.bind(("", port))
    made.connect((address, HTTP_PORT))
    return made


def test_flows_that_were_forgotten_go_on_by_the_proxys_sockets(web: Scene) -> None:
    for port, direction in ((PROXY_PORT, Direction.INGRESS), (EGRESS_PORT, Direction.EGRESS)):
        web.pods.enforce(judged(Verdict.REDIRECT, port=port, direction=direction))
        connection = web.connection("10.0.0.2")
        assert status(connection, "/") == 200
        web.pods.datapath.clear_conntrack()
        assert status(connection, "/") == 200
        connection.close()


def test_a_judged_flow_is_remembered_as_answered_and_as_over(web: Scene) -> None:
    connection = web.connection("10.0.0.2")
    assert status(connection, "/") == 200
    assert status(connection, "/") == 200
    port = connection.sock.getsockname()[1]
    assert not _flow(web, port).is_half_open
    reader = web.pods.datapath.events()
    try:
        reader.read()
        connection.close()
        ended = [e for e in reader.read() if e.source_port == port and e.endpoint_id == SERVER_ID]
    finally:
        reader.close()
    assert [event.occasion.name for event in ended] == ["CLOSED"]


def test_a_judged_flow_is_told_as_redirected(web: Scene) -> None:
    reader = web.pods.datapath.events()
    try:
        reader.read()
        assert web.get("10.0.0.2", "/") == 200
        told = [e for e in reader.read() if e.endpoint_id == SERVER_ID and not e.is_reply]
    finally:
        reader.close()
    opened = [(e.verdict, e.reason, e.cookie) for e in told if e.occasion.name == "NEW"]
    assert opened[0] == (Verdict.REDIRECT, Reason.FORWARDED, RULED)
    assert opened[1:] == [(Verdict.ALLOW, Reason.FORWARDED, RULED)], (
        "the proxy's own, on its way in"
    )


def test_a_flow_whose_port_nobody_serves_is_refused_and_told(web: Scene) -> None:
    web.pods.enforce(judged(Verdict.REDIRECT, port=20_009))
    assert not web.pods.can_connect("10.0.0.2", HTTP_PORT)
    assert web.pods.datapath.counters().drops[Reason.NO_PROXY, Direction.INGRESS] > 0
    assert web.web.asked == []


def test_a_pods_marks_do_not_leave_its_namespace(web: Scene) -> None:
    """With this mark, the proxy's own packets pass to the server unjudged."""

    def connect_marked() -> http.client.HTTPConnection:
        made = http.client.HTTPConnection("10.0.0.2", HTTP_PORT, timeout=2)
        made.sock = socket.socket()
        made.sock.settimeout(2)
        made.sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK_PROXY_TO_SERVER)
        made.sock.connect(("10.0.0.2", HTTP_PORT))
        return made

    connection = web.pods.within("client", connect_marked)
    assert status(connection, "/private") == 403
    connection.close()
    assert web.web.asked == []


def test_no_packet_filter_is_asked(web: Scene) -> None:
    for command in (("iptables-save",), ("ip6tables-save",), ("nft", "list", "ruleset")):
        node = f"--net=/run/netns/{web.pods.prefix}-node"
        found = subprocess.run(
            ["nsenter", node, *command], check=True, capture_output=True, text=True
        )
        rules = [line for line in found.stdout.splitlines() if not line.startswith(("#", ":", "*"))]
        assert [line for line in rules if line != "COMMIT"] == []


def test_the_device_is_mended_where_it_is_not_as_it_should_be(web: Scene) -> None:
    node = f"{web.pods.prefix}-node"
    assert web.pods.within("node", device_faults) == ()
    for damage in (
        ["ip", "-n", node, "rule", "del", "priority", "510"],
        ["ip", "-n", node, "-6", "route", "flush", "table", "51870"],
        ["nsenter", f"--net=/run/netns/{node}", "sysctl", "-qw", "net.ipv4.tcp_early_demux=1"],
    ):
        subprocess.run(damage, check=True)
        assert len(web.pods.within("node", device_faults)) == 1, damage
        web.pods.within("node", ensure_device)
        assert web.pods.within("node", device_faults) == ()
    assert web.get("10.0.0.2", "/") == 200


def test_a_dead_envoy_refuses_what_it_would_judge_and_nothing_else(tmp_path: Path) -> None:
    with scene(tmp_path) as made:
        made.pods.enforce(judged(Verdict.REDIRECT))
        made.pods.place()
        made.start_envoy((PROXY_PORT, Direction.INGRESS))
        connection = made.connection("10.0.0.2")
        assert status(connection, "/") == 200
        made.stop_envoy()
        with pytest.raises((TimeoutError, ConnectionResetError, http.client.RemoteDisconnected)):
            status(connection, "/dead")
        assert not made.pods.can_connect("10.0.0.2", HTTP_PORT)
        made.start_envoy((PROXY_PORT, Direction.INGRESS))
        assert made.get("10.0.0.2", "/back") == 200
        assert [path for _, path in made.web.asked] == ["/", "/back"]
        made.pods.within("node", remove_device)
        assert _settings_left(made) == ("1", "")


def _settings_left(made: Scene) -> tuple[str, str]:
    """Early demultiplexing, and what is left of rules and routes."""
    node = f"{made.pods.prefix}-node"
    demux = made.pods.within("node", Path("/proc/sys/net/ipv4/tcp_early_demux").read_text).strip()
    left = "".join(
        subprocess.run(
            ["ip", "-n", node, *words], check=False, capture_output=True, text=True
        ).stdout
        for words in (
            ("rule", "show", "priority", "510"),
            ("-6", "rule", "show", "priority", "510"),
            ("route", "show", "table", "51870"),
        )
    )
    return demux, left


def _flow(web: Scene, port: int):  # type: ignore[no-untyped-def]
    return next(
        flow
        for flow in web.pods.datapath.read_conntrack()
        if flow.endpoint_id == SERVER_ID and flow.remote_port == port
    )


@pytest.mark.parametrize("direction", list(Direction))
def test_an_icmp_error_about_the_proxys_own_packets_reaches_the_proxy(
    web: Scene, direction: Direction
) -> None:
    """Else it would never learn of a path that takes only smaller ones."""
    port = PROXY_PORT if direction is Direction.INGRESS else EGRESS_PORT
    web.start_envoy(*LISTENERS)
    web.pods.enforce(judged(Verdict.REDIRECT, port=port, direction=direction))
    connection = web.connection("10.0.0.2")
    assert status(connection, "/") == 200
    (upstream,) = _ports_to_server(web)
    before = _errors_out_of_window(web)
    web.pods.within("server", lambda: _complain("10.0.0.2", "10.0.0.1", upstream))
    assert _errors_out_of_window(web) == before + 1
    assert web.get("10.0.0.2", "/") == 200
    connection.close()


def _ports_to_server(web: Scene) -> list[int]:
    """Where the proxy's connections to the server come from."""
    shown = subprocess.run(
        ["nsenter", f"--net=/run/netns/{web.pods.prefix}-node", "ss", "-Htn", "dst", "10.0.0.2"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return [int(line.split()[3].rsplit(":", 1)[1]) for line in shown.splitlines()]


def _complain(server: str, client: str, port: int) -> None:
    """Tell the client's side that a packet to the server's web was too big, quoting one out of the blue."""
    ends = socket.inet_aton(client) + socket.inet_aton(server)
    quoted = (
        bytes.fromhex("4500003c000040003f060000") + ends + struct.pack("!HHI", port, HTTP_PORT, 7)
    )
    error = struct.pack("!BBHHH", 3, 4, 0, 0, 1280) + quoted
    total = sum(struct.unpack(f"!{len(error) // 2}H", error))
    checksum = 0xFFFF - (total % 0xFFFF)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(error[:2] + checksum.to_bytes(2, "big") + error[4:], (client, 0))


def _errors_out_of_window(web: Scene) -> int:
    """ICMP errors that found their TCP socket, yet quoted a segment that it did not send."""
    names, values = (
        line.split()
        for line in web.pods.within(
            "node", Path("/proc/thread-self/net/netstat").read_text
        ).splitlines()
        if line.startswith("TcpExt:")
    )
    return int(values[names.index("OutOfWindowIcmps")])
