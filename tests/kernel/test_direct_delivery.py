"""TCP from pod to pod of one node, past the node's IP stack: judged as ever, and only where that is safe.

client ══ vclient │ node: its filter drops all it sees │ vserver ══ server
                └────────────────────────────────────────┘
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry, LocalEnd, Reason, libbpf
from nodeagent.datapath.encryption_maps import WireMode
from nodeagent.datapath.pins import current_version, map_path
from nodeagent.plan.generation import (
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)
from nodeagent.plan.places import Place
from tests.support import kernel_packets as packets
from tests.support.kernel_packets import ACK, SYN
from tests.support.kernel_pods import CLIENT, ENDPOINTS, SERVER, Pods, arrives, two_pods

pytestmark = pytest.mark.kernel

ADDRESSES = ("10.0.0.2", "fd00::2")
CLIENT_ADDRESS = dict(zip(ADDRESSES, ("10.0.0.1", "fd00::1"), strict=True))
PORT = 8080
SERVICE = "10.96.0.1"
HOPS = 64
"""What a pod's packets begin with."""
LOWEST_HOPS = {
    "10.0.0.2": (socket.IPPROTO_IP, 21),  # IP_MINTTL
    "fd00::2": (socket.IPPROTO_IPV6, 73),  # IPV6_MINHOPCOUNT
}
PASS, REDIRECT = -1, 7
ETH_P_ALL = 3
DIGESTS = count(1)


def allowing(*, egress: bool = True, ingress: bool = True) -> Generation:
    """The client may go out, and the server may be reached, or not."""
    allow = PolicyEntry(Verdict.ALLOW, cookie=1)
    ways = {(1, Direction.EGRESS): egress, (2, Direction.INGRESS): ingress}
    return Generation(
        policy={
            PolicyKey(table, 0, int(direction), 0, 0): allow
            for (table, direction), is_open in ways.items()
            if is_open
        },
        class_of={2: 3, CLIENT: 1, SERVER: 2},
        port_class_of={},
        endpoint_tables={
            1: EndpointTable(1, TableFlag.DENY_EGRESS, egress_cookie=31),
            2: EndpointTable(2, TableFlag.DENY_INGRESS, ingress_cookie=32),
        },
        attributions={},
        digest=f"{next(DIGESTS):064x}",
    )


@pytest.fixture(scope="module")
def world() -> Iterator[Pods]:
    with two_pods() as pods:
        pods.enforce(allowing())
        pods.place()
        yield pods


@pytest.fixture(params=[True, False], ids=["into the pod", "to its interface"])
def pods(world: Pods, request: pytest.FixtureRequest) -> Iterator[Pods]:
    """Delivered directly, on a node that forwards nothing itself."""
    world.enforce(allowing())
    world.datapath.clear_conntrack()
    world.deliver_directly(is_pair=request.param)
    world.nft(
        "add table inet node;"
        " add chain inet node forwarded { type filter hook forward priority 0; policy drop; }"
    )
    yield world
    world.nft("flush ruleset")
    world.datapath.set_encryption(WireMode())
    world.datapath.set_places({})


def connected(pods: Pods, address: str) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection from client to server."""
    with pods.listen(address, PORT) as listening:
        client = pods.connect(address, PORT, timeout=10)
        listening.settimeout(10)
        return client, listening.accept()[0]


def flows(pods: Pods, client: socket.socket) -> list[ConntrackEntry]:
    """Of this connection, as the client's end knows it and as the server's does."""
    port = client.getsockname()[1]
    found = (
        flow
        for flow in pods.datapath.read_conntrack()
        if port == (flow.local_port if flow.endpoint_id == 1 else flow.remote_port)
    )
    return sorted(found, key=lambda flow: flow.endpoint_id)


def drops(pods: Pods, reason: Reason, direction: Direction) -> int:
    return pods.datapath.counters().drops.get((reason, direction), 0)


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_goes_directly_is_not_the_nodes_to_filter_and_is_accounted_at_both_ends(
    pods: Pods, address: str
) -> None:
    client, server = connected(pods, address)
    with client, server:
        level, option = LOWEST_HOPS[address]
        server.setsockopt(level, option, HOPS - 1)
        assert arrives(client, server, b"one hop less")
        assert arrives(server, client, b"and back")
        much = bytes(500_000)
        sending = threading.Thread(target=client.sendall, args=(much,))
        sending.start()
        assert len(received(server, len(much))) == len(much)
        sending.join()
        there, here = flows(pods, client)
        assert there.is_direct
        assert here.is_direct
        assert sums(there) == sums(here)
        server.setsockopt(level, option, HOPS)
        assert not arrives(client, server, b"from next door")
    pods.deliver_by_node()
    pods.datapath.clear_conntrack()
    with pods.listen(address, PORT):
        assert not pods.can_connect(address, PORT)


def received(end: socket.socket, length: int) -> bytes:
    end.settimeout(20)
    data = b""
    while len(data) < length:
        data += end.recv(length)
    return data


def sums(flow: ConntrackEntry) -> tuple[int, int, int, int]:
    return flow.forward_packets, flow.forward_bytes, flow.reply_packets, flow.reply_bytes


@pytest.mark.parametrize("address", ADDRESSES)
def test_each_end_refuses_what_it_would_have_refused(pods: Pods, address: str) -> None:
    with pods.listen(address, PORT):
        for denied, direction in (
            (allowing(egress=False), Direction.EGRESS),
            (allowing(ingress=False), Direction.INGRESS),
        ):
            pods.enforce(denied)
            before = drops(pods, Reason.POLICY_DENIED, direction)
            assert not pods.can_connect(address, PORT)
            assert drops(pods, Reason.POLICY_DENIED, direction) > before


@pytest.mark.parametrize("end", ["egress", "ingress"])
def test_a_revoke_at_either_end_cuts_and_its_return_mends(pods: Pods, end: str) -> None:
    client, server = connected(pods, "10.0.0.2")
    with client, server:
        assert arrives(client, server, b"before")
        pods.enforce(allowing(**{end: False}))
        assert not arrives(client, server, b"lost")
        pods.enforce(allowing())
        assert received(server, 4) == b"lost"
        assert arrives(server, client, b"after")


def test_a_services_flow_takes_the_nodes_way_both_ways(pods: Pods) -> None:
    pods.nft(
        "flush ruleset; add table ip node;"
        " add chain ip node services { type nat hook prerouting priority -100; };"
        f" add rule ip node services ip daddr {SERVICE} dnat to 10.0.0.2"
    )
    with pods.listen("10.0.0.2", PORT) as listening:
        client = pods.connect(SERVICE, PORT, timeout=10)
        server, _ = listening.accept()
    with client, server:
        assert arrives(client, server, b"asked")
        assert arrives(server, client, b"answered")
        assert not any(flow.is_direct for flow in flows(pods, client))


def test_a_flow_outlives_the_option_going_and_coming(pods: Pods) -> None:
    pods.nft("flush ruleset")
    client, server = connected(pods, "fd00::2")
    with client, server:
        for change in (pods.deliver_by_node, pods.deliver_directly, pods.deliver_by_node):
            change()
            assert arrives(client, server, b"there")
            assert arrives(server, client, b"back")


def test_a_program_whose_successors_have_been_loaded_goes_on_to_the_other_interface(
    pods: Pods,
) -> None:
    """The map of programs to call is emptied when its version is unpinned."""
    version = current_version(pods.config.bpffs)
    assert version is not None
    called = libbpf.open_map(map_path(pods.config.bpffs, version, "into_pod"))
    assert libbpf.delete(called, bytes(4))
    called.close()
    client, server = connected(pods, "10.0.0.2")
    with client, server:
        assert arrives(client, server, b"there")
        assert arrives(server, client, b"back")
        assert all(flow.is_direct for flow in flows(pods, client))


def test_strict_encryption_lets_neighbours_talk_directly(pods: Pods) -> None:
    pods.datapath.set_places(
        {f"{address}/{128 if ':' in address else 32}": Place.HERE
         for endpoint in ENDPOINTS for address in endpoint.addresses}
    )  # fmt: skip
    pods.datapath.set_encryption(WireMode(is_on=True, strict=True))
    client, server = connected(pods, "fd00::2")
    with client, server:
        assert arrives(client, server, b"there")
        assert arrives(server, client, b"back")
        assert all(flow.is_direct for flow in flows(pods, client))


# Which packets, by themselves ------------------------------------------------------------------


def taken(pods: Pods, packet: bytes) -> int:
    """What the client's program makes of a packet that comes from the client."""
    mac = bytes.fromhex(pods.within("node", lambda: host_mac("vclient")).replace(":", ""))
    own = bytes.fromhex(pods.mac("client").replace(":", ""))
    context = bytearray(192)
    struct.pack_into("=I", context, 40, pods.ifindex("vclient"))  # __sk_buff.ifindex
    frame = mac + own + packet[12:]
    return pods.within(
        "node",
        lambda: pods.datapath.run_program(Direction.EGRESS, frame, context=bytes(context))[0],
    )


def error_about(address: str, port: int) -> tuple[bytes, Protocol]:
    """The client complains of the answer that it got to what it sent from this port."""
    ends, answer = (address, CLIENT_ADDRESS[address]), packets.tcp(PORT, port, SYN | ACK)
    if ":" in address:
        quoted = packets.ipv6(*ends, Protocol.TCP, answer)
        return packets.icmp(1, 4, data=quoted), Protocol.ICMPV6
    return packets.icmp(3, 3, data=packets.ipv4(*ends, Protocol.TCP, answer)), Protocol.ICMP


def host_mac(interface: str) -> str:
    shown = subprocess.run(
        ["ip", "-o", "link", "show", interface], check=True, capture_output=True, text=True
    ).stdout
    return shown.split("link/ether ")[1].split()[0]


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_whole_tcp_connections_of_neighbours_go_directly(pods: Pods, address: str) -> None:
    def sent(content: bytes, protocol: Protocol = Protocol.TCP, **fields: int) -> int:
        packet = packets.ip(CLIENT_ADDRESS[address], address, protocol, content, **fields)
        return taken(pods, packet)

    assert sent(packets.tcp(5000, PORT, ACK)) == PASS  # its opening was not seen
    assert sent(packets.tcp(5001, PORT, SYN), hop_limit=1) == PASS
    assert sent(packets.tcp(5001, PORT, ACK)) == PASS  # as its opening
    assert sent(packets.udp(5000, PORT), Protocol.UDP) == PASS
    assert sent(packets.tcp(5002, PORT, SYN)) == REDIRECT
    assert sent(packets.tcp(5002, PORT, ACK)) == REDIRECT
    assert sent(packets.tcp(5002, PORT, ACK), hop_limit=1) == PASS  # the node's to answer
    assert [sent(*error_about(address, port)) for port in (5001, 5002)] == [PASS, REDIRECT]
    pods.deliver_by_node()
    assert sent(packets.tcp(5002, PORT, ACK)) == PASS
    assert sent(packets.tcp(5003, PORT, SYN)) == PASS


# An interface that goes, and another that gets its index --------------------------------------------


@pytest.mark.parametrize("is_pair", [True, False], ids=["into the pod", "to its interface"])
def test_who_gets_a_gone_pods_interface_index_gets_nothing_that_is_not_its_own(
    world: Pods, is_pair: bool
) -> None:
    world.enforce(allowing())
    world.datapath.clear_conntrack()
    world.deliver_directly(is_pair=is_pair)
    client, server = connected(world, "10.0.0.2")
    with client, server, heir(world) as sniffing:
        client.send(b"to the pod that went")
        wait_for_more(world, client)  # the kernel has heard from nobody that the pod went
        tell_of_heir(world, is_pair=is_pair)
        wait_for_more(world, client)  # and an entry too many, of an address that is not the heir's
        assert not any(is_tcp(frame) for frame in frames(sniffing))


@contextmanager
def heir(pods: Pods) -> Iterator[socket.socket]:
    """Another interface under the index, the name and the MAC of the server's; all that comes out of it in
    the pod. The server's own is back afterwards."""
    node, pod, index, mac = (
        f"{pods.prefix}-node", f"{pods.prefix}-server", pods.ifindex("vserver"), pods.mac("server"),
    )  # fmt: skip
    ip(node, "link del vserver")
    ip(node, f"link add vserver index {index} type veth peer name eth0 netns {pod}")
    ip(pod, f"link set eth0 address {mac}")
    ip(pod, "link set eth0 up")
    ip(node, "link set vserver up")
    try:
        with pods.within("server", sniffer) as sniffing:
            yield sniffing
    finally:
        pods.plug_in_again("server")


def ip(namespace: str, line: str) -> None:
    subprocess.run(["ip", "-n", namespace, *line.split()], check=True, capture_output=True)


def sniffer() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.bind(("eth0", ETH_P_ALL))
    made.setblocking(False)
    return made


def frames(sniffing: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(BlockingIOError):
        while True:
            yield sniffing.recv(2048)


def is_tcp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == Protocol.TCP


def wait_for_more(pods: Pods, client: socket.socket) -> None:
    """Until the client has sent twice more: what it sent before has arrived somewhere, or never will."""
    sent, deadline = packets_sent(pods, client), time.monotonic() + 30
    while packets_sent(pods, client) < sent + 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def packets_sent(pods: Pods, client: socket.socket) -> int:
    return flows(pods, client)[0].forward_packets


def tell_of_heir(pods: Pods, *, is_pair: bool) -> None:
    """As an agent does that takes it for another pod, but for the address of the one that went."""
    index = pods.ifindex("vserver")
    known = replace(ENDPOINTS[1], endpoint_id=3, addresses=("10.0.0.3",), mac=pods.mac("server"))
    pods.datapath.set_endpoint(known, index)
    end = LocalEnd(ifindex=index, is_pair=is_pair)
    pods.within("node", lambda: pods.datapath.set_local_ends({"10.0.0.2": end, "10.0.0.3": end}))
