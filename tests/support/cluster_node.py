"""A node with pods behind a bridge and pods behind routes, each in a namespace of its own.

node ns  192.0.2.1 on `uplink` (a pair with both ends here)
  ├─ br0 ── vethb1 ═══ eth0  b1   10.1.0.2/24  fd01::2/64     as a bridge CNI lays it out
  │    └── vethb2 ═══ eth0  b2   10.1.0.3/24  fd01::3/64
  ├─ calir1 ═══ eth0  r1   10.2.0.2/32  fd02::2/128            as a routed CNI does
  └─ calir2 ═══ eth0  r2                fd02::3/128
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.support.kernel_pods import within

T = TypeVar("T")
PODS = {
    "b1": ("vethb1", ("10.1.0.2", "fd01::2")),
    "b2": ("vethb2", ("10.1.0.3", "fd01::3")),
    "r1": ("calir1", ("10.2.0.2", "fd02::2")),
    "r2": ("calir2", ("fd02::3",)),
}


@dataclass(frozen=True)
class ClusterNode:
    """The namespaces above, by the part of their name that differs."""

    prefix: str

    def within(self, work: Callable[[], T]) -> T:
        """Do something in the node's namespace."""
        return within(f"{self.prefix}-node", work)

    def netns(self, pod: str) -> Path:
        """What a runtime says of a pod's namespace."""
        return Path(f"/run/netns/{self.prefix}-{pod}")

    def mac(self, pod: str) -> str:
        """The MAC of a pod's end."""
        path = "/sys/class/net/eth0/address"
        shown = self._run("ip", "netns", "exec", f"{self.prefix}-{pod}", "cat", path)
        return shown.strip()

    def ip(self, place: str, line: str) -> None:
        """`ip` within a namespace."""
        self._run("ip", "-n", f"{self.prefix}-{place}", *line.split())

    def add_pod(self, pod: str) -> None:
        """Make a pod's namespace and its cable."""
        interface, addresses = PODS[pod]
        self._run("ip", "netns", "add", f"{self.prefix}-{pod}")
        self.ip("node", f"link add {interface} type veth peer name eth0 netns {self.prefix}-{pod}")
        is_bridged = interface.startswith("veth")
        if is_bridged:
            self.ip("node", f"link set {interface} master br0")
        self.ip("node", f"link set {interface} up")
        self.ip(pod, "link set eth0 up")
        for address in addresses:
            whole, shared = (128, 64) if ":" in address else (32, 24)
            nodad = " nodad" if ":" in address else ""
            bits = shared if is_bridged else whole
            self.ip(pod, f"addr add {address}/{bits} dev eth0{nodad}")
            if not is_bridged:
                self.ip("node", f"route add {address}/{whole} dev {interface}")

    def remove_pod(self, pod: str) -> None:
        """End a pod's namespace, and its cable at once."""
        self.ip("node", f"link del {PODS[pod][0]}")
        self._run("ip", "netns", "del", f"{self.prefix}-{pod}")

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout


@contextmanager
def cluster_node() -> Iterator[ClusterNode]:
    """The world above; removed behind it, also after a failure half-way."""
    node = ClusterNode(f"tgn-{uuid.uuid4().hex[:6]}")
    with ExitStack() as undo:
        for place in ("node", *PODS):
            command = ["ip", "netns", "del", f"{node.prefix}-{place}"]
            undo.callback(subprocess.run, command, check=False, capture_output=True)
        subprocess.run(["ip", "netns", "add", f"{node.prefix}-node"], check=True)
        for line in (
            "link add uplink type veth peer name wire",
            "link set wire up",
            "addr add 192.0.2.1/24 dev uplink",
            "link set uplink up",
            "link add br0 type bridge",
            "addr add 10.1.0.1/24 dev br0",
            "link set br0 up",
        ):
            node.ip("node", line)
        for pod in PODS:
            node.add_pod(pod)
        yield node
