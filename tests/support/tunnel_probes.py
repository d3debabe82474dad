"""What tests ask of two nodes that encrypt: do their pods talk, what was refused, how much gets through.

In:   TunnelNodes
Out:  outcomes of connections, counts of refused packets, pids
Shell.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from demo.outcome import Outcome, Probe
from demo.workload_commands import probe_command, target
from netpolicy.encryption import Encryption
from netpolicy.rules import Direction
from nodeagent.datapath import Datapath, DatapathConfig
from nodeagent.datapath.abi_numbers import Reason
from nodeagent.datapath.events import FlowEvent
from tests.support.kernel_pods import within
from tests.support.tunnel_world import SERVICE, STRICT, TunnelNodes
from tests.support.world_topology import ECOMMERCE

CLIENT = ECOMMERCE.pod("frontend")
SERVER = ECOMMERCE.pod("api-gateway")
LARGE_BYTES = 4 << 20


def encrypt(nodes: TunnelNodes, mode: str = "strict", settings: Encryption = STRICT) -> None:
    """From whatever the test before left: both nodes run, and know each other's keys."""
    nodes.tell_all(mode=mode, settings=settings)
    nodes.start_all()
    nodes.exchange_keys(settings=settings, mode=mode)
    for node in nodes.world.topology.nodes:
        nodes.wait(node.name, f"it is {mode}", lambda report: report["mode"] == mode)
    nodes.world.wait_for(
        "both families answer", lambda: all_are(nodes, Outcome.ANSWERED), timeout=40
    )


def all_are(
    nodes: TunnelNodes, outcome: Outcome, addresses: tuple[str, ...] = SERVER.addresses
) -> bool:
    targets = [target(SERVER, address) for address in addresses]
    lines = nodes.world.run(CLIENT.name, probe_command(targets, timeout=1.0)).stdout.splitlines()
    return {Probe.decode(line).outcome for line in lines} == {outcome}


def refused(nodes: TunnelNodes, node: str, direction: Direction) -> int:
    """Packets dropped there as unencrypted."""
    config = DatapathConfig(
        bpffs=nodes.world.bpffs / node, object_path=Path("build/bpf/tidegate.bpf.o")
    )
    datapath = Datapath.open(config)
    try:
        return datapath.counters().drops.get((Reason.UNENCRYPTED, direction), 0)
    finally:
        datapath.close()


def told_of(nodes: TunnelNodes, node: str, work: Callable[[], object]) -> list[FlowEvent]:
    """What the programs of a node tell meanwhile, as its agent would read it."""
    config = DatapathConfig(
        bpffs=nodes.world.bpffs / node, object_path=Path("build/bpf/tidegate.bpf.o")
    )
    datapath = Datapath.open(config)
    events = datapath.events()

    def read() -> list[FlowEvent]:
        found: list[FlowEvent] = []
        while more := events.read():
            found += more
        return found

    try:
        within(nodes.world.namespace(node), read)
        work()
        return within(nodes.world.namespace(node), read)
    finally:
        events.close()
        datapath.close()


def transfer(nodes: TunnelNodes, address: str) -> int:
    """Send much through one connection; return how much of it arrived."""
    listener = within(
        nodes.world.namespace(SERVER.name),
        lambda: socket.create_server(
            (address, 7777), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        ),
    )
    arrived = bytearray()

    def receive() -> None:
        with listener, listener.accept()[0] as connection:
            while part := connection.recv(1 << 16):
                arrived.extend(part)

    thread = threading.Thread(target=receive)
    thread.start()
    sender = within(
        nodes.world.namespace(CLIENT.name),
        lambda: socket.create_connection((address, 7777), timeout=20),
    )
    with sender:
        sender.sendall(bytes(LARGE_BYTES))
    thread.join(20)
    return len(arrived)


def wireguard_go(nodes: TunnelNodes, node: str) -> list[int]:
    """The processes of a node."""
    shown = subprocess.run(
        ["ip", "netns", "pids", nodes.world.namespace(node)],
        check=True,
        capture_output=True,
        text=True,
    )
    pids = map(int, shown.stdout.split())
    return [pid for pid in pids if _name_of(pid).startswith("wireguard-go")]


def is_in_kernel(nodes: TunnelNodes) -> bool:
    """Does this kernel make tunnels itself? Asked of the kernel, not of the agent."""
    asked = ["ip", "link", "add", "asked", "type", "wireguard"]
    if nodes.world.run("node-a", asked, check=False).returncode:
        return False
    nodes.world.run("node-a", ["ip", "link", "del", "asked"])
    return True


def end_tunnels(nodes: TunnelNodes, node: str) -> None:
    """Without a word to the agent: a dead wireguard-go takes its device along, the kernel's are removed."""
    for pid in wireguard_go(nodes, node):
        os.kill(pid, signal.SIGKILL)
    if is_in_kernel(nodes):
        for device in nodes.devices(node):
            nodes.world.run(node, ["ip", "link", "del", device])


def _name_of(pid: int) -> str:
    """Empty if the process has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def connects(nodes: TunnelNodes, node: str, address: str, port: int) -> bool:
    """From the host itself, over TCP."""

    def attempt() -> bool:
        with suppress(OSError):
            socket.create_connection((address, port), timeout=2).close()
            return True
        return False

    return bool(within(nodes.world.namespace(node), attempt))


def listening(nodes: TunnelNodes, node: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return within(
        nodes.world.namespace(node), lambda: socket.create_server((address, port), family=family)
    )


@contextmanager
def translating(nodes: TunnelNodes, *more: str) -> Iterator[None]:
    """As kube-proxy would on node-a: the service's addresses lead to the server."""
    v4, v6 = SERVER.addresses
    rules = (
        f"add rule inet kube-proxy prerouting ip daddr {SERVICE[0]} dnat ip to {v4}",
        f"add rule inet kube-proxy prerouting ip6 daddr {SERVICE[1]} dnat ip6 to {v6}",
    )
    with kube_proxy(nodes, "node-a", *rules, *more):
        yield


@contextmanager
def kube_proxy(nodes: TunnelNodes, node: str, *rules: str) -> Iterator[None]:
    """A node translates by these rules of the chains `prerouting` and `postrouting`."""
    chains = (
        "add table inet kube-proxy",
        "add chain inet kube-proxy prerouting { type nat hook prerouting priority dstnat; }",
        "add chain inet kube-proxy postrouting { type nat hook postrouting priority srcnat; }",
    )
    for rule in (*chains, *rules):
        nodes.world.run(node, ["nft", rule])
    try:
        yield
    finally:
        nodes.world.run(node, ["nft", "delete table inet kube-proxy"])
