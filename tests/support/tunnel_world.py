"""Two nodes of a world that encrypt what their pods say to each other.

In:   a World
Out:  TunnelNodes: told what to do, asked how they are
Shell.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from netpolicy.encryption import Encryption
from tests.support.kernel_pods import within
from tests.support.own_sockets import with_own_sockets
from tests.support.tap import POD_BLOCKS
from tests.support.world import PROJECT, World
from tests.support.world_topology import WorldNode

STRICT: Final = Encryption(enabled=True, strict=True, pod_cidrs=POD_BLOCKS)
NORMAL: Final = Encryption(enabled=True)
OUTSIDE_PORT: Final = 7443
"""Of a reconciler, were there one."""
SERVICE: Final = ("172.20.0.10", "fd96::10")
"""Outside of the blocks that pods' addresses are from."""
_HIDE_TUN: Final = 'mount -t tmpfs none /dev/net && exec "$@"'
READY_SECONDS: Final = 90.0


class TunnelNodes:
    """The programs of a world's nodes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._running: set[str] = set()
        self._told: dict[str, dict[str, Any]] = {}
        for node in world.topology.nodes:
            self._told[node.name] = self._first(node)

    def tell(self, node: str, *, mode: str, settings: Encryption, **changes: Any) -> None:
        """Say what a node is to do; it acts when it next looks."""
        told = self._told[node] | {"mode": mode, "encryption": asdict(settings)} | changes
        self._told[node] = told
        following = self._file(node).with_suffix(".new")
        following.write_text(json.dumps(told))
        following.rename(self._file(node))

    def tell_all(self, *, mode: str, settings: Encryption, **changes: Any) -> None:
        for node in self._told:
            self.tell(node, mode=mode, settings=settings, **changes)

    def start_all(self) -> None:
        """Have every node's program running."""
        begun = [node for node in self._told if self._begin(node, has_tun=True)]
        for node in begun:
            self.wait(node, "it reports", lambda report: True)

    def start(self, node: str, *, has_tun: bool = True) -> None:
        """Have a node's program running, and wait for its first report. `has_tun`: it can make devices."""
        if self._begin(node, has_tun=has_tun):
            self.wait(node, "it reports", lambda report: True)

    def _begin(self, node: str, *, has_tun: bool) -> bool:
        """True if it did not run yet."""
        if node in self._running and self.world.process(node).poll() is None:
            return False
        self._running.add(node)
        self._file(node).with_suffix(".report").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.support.tunnel_node", str(self._file(node))]
        if not has_tun:
            command = ["unshare", "--mount", "sh", "-c", _HIDE_TUN, "sh", *command]
        self.world.start(node, node, with_own_sockets(self.world, node, command))
        return True

    def report(self, node: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._file(node).with_suffix(".report").read_text()))
        except FileNotFoundError:
            return {}

    def wait(self, node: str, what: str, holds: Callable[[dict[str, Any]], bool]) -> None:
        def is_so() -> bool:
            report = self.report(node)
            return bool(report) and holds(report)

        self.world.wait_for(f"{node}: {what}", is_so, timeout=READY_SECONDS, program=node)

    def entries(self, *, without: str = "") -> list[tuple[str, str, str, str]]:
        """Who is behind which address, as the feed would say it; without those of a node, or a pod."""
        topology = self.world.topology
        found = [(a, p.namespace, p.name, p.node.name) for p in topology.pods for a in p.addresses]
        found += [(a, "", n.name, n.name) for n in topology.nodes for a in (n.link_v4, n.link_v6)]
        return [entry for entry in found if without not in (entry[2], entry[3])]

    def exchange_keys(self, *, settings: Encryption, mode: str) -> None:
        """Do as the feed does: give each node the keys that the others report."""
        for node in self._told:
            self.wait(
                node,
                "it has a key",
                lambda report: {key["port"] for key in report["keys"]} == {settings.port},
            )
        for node in self._told:
            others = [self.report(other)["keys"] for other in self._told if other != node]
            keys = [key for found in others for key in found]
            self.tell(node, mode=mode, settings=settings, node_keys=keys)
        for node in self._told:
            self.wait(node, "it has peers", lambda report: report["peers"] == len(self._told) - 1)

    def rotate(self, node: str) -> None:
        self._file(node).with_name(f"{node}.order").write_text("rotate")

    def age_keys(self, node: str, seconds: float) -> None:
        """Have the keys of a node whose program does not run be that much older."""
        for path in self._key_files(node):
            kept = json.loads(path.read_text())
            path.write_text(json.dumps(kept | {"made_at": kept["made_at"] - seconds}))

    def private_keys(self, node: str) -> list[str]:
        return [json.loads(path.read_text())["private_key"] for path in self._key_files(node)]

    def _key_files(self, node: str) -> list[Path]:
        return sorted((self.world.directory / "state" / node / "wireguard").glob("key-?"))

    def devices(self, node: str) -> list[str]:
        shown = within(self.world.namespace(node), socket.if_nameindex)
        return sorted(name for _, name in shown if name.startswith("tidegate_wg"))

    def _file(self, node: str) -> Path:
        return self.world.directory / f"{node}.json"

    def _first(self, node: WorldNode) -> dict[str, Any]:
        world, topology = self.world, self.world.topology
        return {
            "node": node.name,
            "state_dir": str(world.directory / "state" / node.name),
            "bpffs": str(world.bpffs / node.name),
            "bpf_object": str(PROJECT / "build/bpf/tidegate.bpf.o"),
            "pods": [
                {"interface": p.interface, "name": p.name, "addresses": p.addresses}
                for p in topology.pods_on(node)
            ],
            "node_addresses": [node.link_v4, node.link_v6],
            "node_keys": [],
            "outside_ports": [OUTSIDE_PORT],
            "entries": self.entries(),
            "services": SERVICE,
        }
