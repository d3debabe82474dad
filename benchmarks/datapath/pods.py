"""Two pods on one node, for measurements: network namespaces that end with the runner.

    client 10.90.0.1 ── bench-c │ this namespace, the node │ bench-s ── server 10.90.0.2

In:   nothing
Out:  Pods: interface indices; a way to run a program inside a pod
Shell over network namespaces. Each is held by a process that ends when its input closes.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.datapath.world import CLIENT, SERVER

_NODE: Final = "10.90.0.254"
_PODS: Final = (("bench-c", CLIENT), ("bench-s", SERVER))
_MACS: Final = {CLIENT: "02:00:00:00:00:01", SERVER: "02:00:00:00:00:02"}


@dataclass(frozen=True, slots=True)
class Pod:
    """A namespace, by the process that holds it, its interface on the node, and its own MAC."""

    address: str
    holder: int
    ifindex: int
    mac: str

    def enter(self, *command: str) -> list[str]:
        """The argument list that runs a command inside."""
        return ["nsenter", f"--net=/proc/{self.holder}/ns/net", *command]


@contextmanager
def two_pods() -> Iterator[tuple[Pod, Pod]]:
    """Client and server, routed through the namespace this process is in."""
    holders = [
        subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in _PODS
    ]
    try:
        _run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        _run("ip", "link", "set", "lo", "up")
        client, server = (
            _join(holder, interface, address)
            for holder, (interface, address) in zip(holders, _PODS, strict=True)
        )
        yield client, server
    finally:
        for holder in holders:
            holder.communicate()


def _join(holder: subprocess.Popen[bytes], interface: str, address: str) -> Pod:
    _wait_until_unshared(holder)
    pid = str(holder.pid)
    _run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", pid)
    mac = _MACS[address]
    ifindex = socket.if_nametoindex(interface)
    pod = Pod(address=address, holder=holder.pid, ifindex=ifindex, mac=mac)
    _run("ip", "address", "add", f"{_NODE}/32", "dev", interface)
    _run("ip", "link", "set", interface, "up")
    _run("ip", "route", "add", address, "dev", interface)
    for command in (
        ("ip", "address", "add", f"{address}/32", "dev", "eth0"),
        ("ip", "link", "set", "eth0", "address", mac),
        ("ip", "link", "set", "eth0", "up"),
        ("ip", "route", "add", _NODE, "dev", "eth0"),
        ("ip", "route", "add", "default", "via", _NODE),
    ):
        _run(*pod.enter(*command))
    return pod


def _wait_until_unshared(holder: subprocess.Popen[bytes]) -> None:
    """`cat` answers once it runs, and it runs inside the new namespace only."""
    if holder.stdin is None or holder.stdout is None:
        raise RuntimeError("the namespace's holder has no pipes")
    holder.stdin.write(b"x")
    holder.stdin.flush()
    holder.stdout.read(1)
    if Path(f"/proc/{holder.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
        raise RuntimeError("the pod is in the node's own namespace")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
