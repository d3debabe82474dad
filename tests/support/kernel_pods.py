"""Two pods on a node, in network namespaces of their own, under a datapath of their own.

       client ns             node ns                server ns
    eth0 10.0.0.1 ═══ vclient        vserver ═══ eth0 10.0.0.2
         fd00::1         (routed, as a CNI would)      fd00::2

A socket belongs to the namespace it was made in, so a thread enters, makes it, and hands it over.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from nodeagent.datapath import (
    Datapath,
    DatapathConfig,
    GenerationLabel,
    LocalEnd,
    ensure_loaded,
)
from nodeagent.datapath_options import DatapathOptions
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint
from tests.support.kernel_engine import private_config

CLIENT, SERVER = 1000, 1001
ENDPOINTS: Final = (
    LocalEndpoint(
        endpoint_id=1, identity=CLIENT, interface="vclient", namespace="shop", name="client",
        addresses=("10.0.0.1", "fd00::1"),
    ),
    LocalEndpoint(
        endpoint_id=2, identity=SERVER, interface="vserver", namespace="shop", name="server",
        addresses=("10.0.0.2", "fd00::2"),
    ),
)  # fmt: skip
ADDRESSES: Final = AddressPlan(
    exact={"10.0.0.1": CLIENT, "fd00::1": CLIENT, "10.0.0.2": SERVER, "fd00::2": SERVER},
    prefixes={"0.0.0.0/0": 2, "::/0": 2},
)
_LAST_NUMBERS: Final = {"client": 1, "server": 2}
"""Of their addresses."""
_NEW_NETWORK: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


@dataclass(frozen=True)
class Pods:
    """The node's datapath, and ways into the namespaces."""

    prefix: str
    config: DatapathConfig
    datapath: Datapath

    def within(self, place: str, work: Callable[[], T]) -> T:
        """Do something in the namespace of `client`, `server` or `node`."""
        return within(f"{self.prefix}-{place}", work)

    def enforce(self, generation: Generation) -> None:
        """Put a generation in force and both pods under it."""
        label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=1)
        self.datapath.activate(self.datapath.fill(generation, label=label))

    def place(self) -> None:
        """Set both endpoints and attach the programs."""
        self.datapath.upsert_addresses(ADDRESSES)
        for endpoint in ENDPOINTS:
            ifindex = self.ifindex(endpoint.interface)
            self.datapath.set_endpoint(endpoint, ifindex)
            self.within("node", lambda ifindex=ifindex: self.datapath.attach(ifindex))  # type: ignore[misc]

    def deliver_directly(self, *, is_pair: bool = True) -> None:
        """Hand TCP from pod to pod past the node's IP stack; not `is_pair`: to the interface only."""
        ends: dict[str, LocalEnd] = {}
        for endpoint in ENDPOINTS:
            ifindex = self.ifindex(endpoint.interface)
            self.datapath.set_endpoint(replace(endpoint, mac=self.mac(endpoint.name)), ifindex)
            end = LocalEnd(ifindex=ifindex, is_pair=is_pair)
            ends |= dict.fromkeys(endpoint.addresses, end)
        self.within("node", lambda: self.datapath.set_local_ends(ends))

    def deliver_by_node(self) -> None:
        """Let everything pass the node's IP stack again."""
        self.within("node", lambda: self.datapath.set_local_ends({}))

    def plug_in_again(self, name: str) -> None:
        """A new cable for a pod, in place of what it has."""
        self.datapath.remove_endpoint(self.ifindex(f"v{name}"))
        _ip(f"{self.prefix}-node", f"link del v{name}")
        _plug_in(self.prefix, name)
        self.place()

    def mac(self, place: str) -> str:
        """The MAC of a pod's own interface."""
        link = ("ip", "-o", "-n", f"{self.prefix}-{place}", "link", "show", "eth0")
        shown = subprocess.run(link, check=True, capture_output=True, text=True).stdout
        return shown.split("link/ether ")[1].split()[0]

    def nft(self, commands: str) -> None:
        """Give the node's packet filter commands."""
        command = ("nsenter", f"--net=/run/netns/{self.prefix}-node", "nft", commands)
        subprocess.run(command, check=True, capture_output=True)

    def ifindex(self, interface: str) -> int:
        """The node's number of an interface."""
        return self.within("node", lambda: socket.if_nametoindex(interface))

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening TCP socket of the server."""
        return self.within(
            "server", lambda: socket.create_server((address, port), family=_family(address))
        )

    def connect(self, address: str, port: int, *, timeout: float = 2.0) -> socket.socket:
        """A TCP connection of the client. Raises TimeoutError if it is dropped."""

        def make() -> socket.socket:
            made = socket.socket(_family(address))
            made.settimeout(timeout)
            try:
                made.connect((address, port))
            except OSError:
                made.close()
                raise
            return made

        return self.within("client", make)

    def can_connect(self, address: str, port: int) -> bool:
        """True if a connection comes about within a moment."""
        try:
            self.connect(address, port, timeout=0.4).close()
        except TimeoutError:
            return False
        return True


def arrives(sender: socket.socket, receiver: socket.socket, data: bytes) -> bool:
    """True if the data arrives within a moment."""
    sender.send(data)
    if not select.select([receiver], [], [], 0.7)[0]:
        return False
    return receiver.recv(len(data)) == data


def within(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a named network namespace, in a thread."""
    with ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,)) as thread:
        return thread.submit(work).result()


def enter(namespace: str) -> None:
    """Bring this thread into a named network namespace, for good."""
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _LIBC.setns(fd, _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(fd)


@contextmanager
def two_pods() -> Iterator[Pods]:
    """The world above; removed behind it, also after a failure half-way."""
    prefix = f"tgt-{uuid.uuid4().hex[:6]}"
    with ExitStack() as undo:
        for place in ("node", "client", "server"):
            _run("ip", "netns", "add", f"{prefix}-{place}")
            undo.callback(_run, "ip", "netns", "del", f"{prefix}-{place}")
        _lay_out(prefix)
        # Whether anybody is handed to directly, the maps then say.
        config = replace(private_config(), options=DatapathOptions(direct_delivery=True))
        ensure_loaded(config)
        datapath = Datapath.open(config)
        undo.callback(datapath.close)
        undo.callback(within, f"{prefix}-node", datapath.remove_all)
        yield Pods(prefix, config, datapath)


def _lay_out(prefix: str) -> None:
    node = f"{prefix}-node"
    for name in _LAST_NUMBERS:
        _plug_in(prefix, name)
    forwarding = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    for setting in forwarding:
        _run("nsenter", f"--net=/run/netns/{node}", "sysctl", "-q", "-w", setting)


def _plug_in(prefix: str, name: str) -> None:
    node, pod, last = f"{prefix}-node", f"{prefix}-{name}", _LAST_NUMBERS[name]
    _ip(node, f"link add v{name} type veth peer name eth0 netns {pod}")
    for line in (
        f"addr add 169.254.1.1/32 dev v{name}",
        f"addr add fe80::1/64 dev v{name} nodad",
        f"link set v{name} up",
        f"route add 10.0.0.{last}/32 dev v{name}",
        f"route add fd00::{last}/128 dev v{name}",
    ):
        _ip(node, line)
    for line in (
        "link set lo up",
        f"addr add 10.0.0.{last}/32 dev eth0",
        f"addr add fd00::{last}/128 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 169.254.1.1 dev eth0 onlink",
        "route add default via fe80::1 dev eth0",
    ):
        _ip(pod, line)


def _ip(namespace: str, line: str) -> None:
    _run("ip", "-n", namespace, *line.split())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
