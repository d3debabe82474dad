"""A node that starts its pods through CNI: Debian's bridge plugin, then ours; and a real agent.

    node-a ── cni0 ═ vethX ── pod        dns (kube-system) answers everybody; nobody may talk to `shut`

In:   how many pods the inventory lists
Out:  CniScene: pods started with a sender in them, what passed
Shell.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Any, Final

import yaml

from tests.support.cni_runtime import CniPod, CniRuntime
from tests.support.live_agents import Agents
from tests.support.world import PROJECT, World
from tests.support.world_topology import ECOMMERCE

NODE: Final = "node-a"
PREFIX: Final = "10.77"
DNS: Final = ("kube-system", "dns", f"{PREFIX}.0.2")
SHUT: Final = ("shop", "shut", f"{PREFIX}.0.3")
_PROGRAM: Final = (sys.executable, "-S", "-E", "-m", "tests.support.cni_traffic")
FIRST_POD: Final = IPv4Address(f"{PREFIX}.1.0")


class CniScene:
    """One node, and its pods by number."""

    def __init__(
        self, world: World, *, pods: int, fence: bool, settings: Mapping[str, Any]
    ) -> None:
        self.world = world
        self.agents = Agents(world)
        self._listed = range(pods)
        self._namespaces: set[str] = set()
        self.runtime = CniRuntime(world, NODE, self._conflist())
        self.write_inventory(self._listed)
        config = yaml.safe_load(self.agents.config(NODE).read_text())
        config["cni"] = {"socket": str(self.cni_socket), "fence": fence}
        config |= settings
        self.agents.config(NODE).write_text(yaml.safe_dump(config))

    @property
    def cni_socket(self) -> Any:
        return self.world.directory / "cni.sock"

    def write_inventory(self, numbers: range) -> None:
        """List these pods: who they are, not where."""
        document = {
            "namespaces": {"shop": {"labels": {}}, "kube-system": {"labels": {
                "kubernetes.io/metadata.name": "kube-system"}}},
            "nodes": [{"name": NODE, "addresses": [f"{PREFIX}.0.1", "10.78.0.1", "fd00:78::1"]}],
            "pods": [
                {"namespace": "kube-system", "name": "dns", "node": NODE,
                 "labels": {"k8s-app": "kube-dns"}},
                {"namespace": "shop", "name": "shut", "node": NODE},
                *({"namespace": "shop", "name": f"pod{n}", "node": NODE, "labels": {"app": "web"}}
                  for n in numbers),
            ],
        }  # fmt: skip
        new = self.world.inventory_path.with_suffix(".new")
        new.write_text(yaml.safe_dump(document))
        new.rename(self.world.inventory_path)

    def pod(self, number: int) -> CniPod:
        return self._pod("shop", f"pod{number}", str(FIRST_POD + number))

    def start_peers(self) -> None:
        for peer in (DNS, SHUT):
            pod = self._pod(*peer)
            self.make_namespace(pod)
            self.runtime.add(pod)

    def make_namespace(self, pod: CniPod) -> None:
        _run(["ip", "netns", "add", pod.netns.name])
        self._namespaces.add(pod.netns.name)

    def remove_namespace(self, pod: CniPod) -> None:
        _run(["ip", "netns", "del", pod.netns.name])
        self._namespaces.discard(pod.netns.name)

    def remove_namespaces(self) -> None:
        for name in sorted(self._namespaces):
            _run(["ip", "netns", "del", name])
        self._namespaces.clear()

    def routed_plugins(self) -> list[dict[str, Any]]:
        """Another chain for the same node: ptp with both families, then ours."""
        ranges = [[{"subnet": "10.78.0.0/24"}], [{"subnet": "fd00:78::/64"}]]
        folder = str(self.world.directory / "ipam-routed")
        ipam = {"type": "host-local", "ranges": ranges, "dataDir": folder}
        return [{"type": "ptp", "ipam": ipam}, self.runtime.conflist["plugins"][-1]]

    def reaches(self, pod: CniPod, address: str) -> bool:
        """True if the pod gets an answer from there."""
        command = [*_PROGRAM, "knock", address]
        enter = ["nsenter", f"--net={pod.netns}", "--", *command]
        told = subprocess.run(enter, check=True, capture_output=True, text=True, cwd=PROJECT)
        return bool(json.loads(told.stdout))

    @contextmanager
    def talking(self, number: int) -> Iterator[dict[str, int]]:
        """The namespace of a pod, in which somebody sends already; afterwards, what it sent and got."""
        pod = self.pod(number)
        self.make_namespace(pod)
        counts: dict[str, int] = {}
        words = ["send", str(number), pod.address, DNS[2], SHUT[2]]
        try:
            with self._program(["nsenter", f"--net={pod.netns}", "--"], words) as told:
                yield counts
            counts.update(told)
        finally:
            self.remove_namespace(pod)

    @contextmanager
    def watching(self) -> Iterator[dict[str, int]]:
        """Frames on the bridge, by kind and pod, once it is over; meanwhile a stranger floods it."""
        enter = self.world.enter(NODE, [])
        counts: dict[str, int] = {}
        with (
            self._program(enter, ["watch", "cni0"]) as seen,
            self._program(enter, ["flood", "cni0", f"{PREFIX}.255"]) as flooded,
        ):
            yield counts
        counts.update(seen)
        counts["flooded"] = flooded["sent"]

    @contextmanager
    def _program(self, enter: list[str], words: list[str]) -> Iterator[dict[str, int]]:
        process = subprocess.Popen(
            [*enter, *_PROGRAM, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        assert process.stdout is not None
        counts: dict[str, int] = {}
        try:
            assert process.stdout.readline() == "ready\n"
            yield counts
            out, _ = process.communicate("", timeout=30)
            counts.update(json.loads(out))
        finally:
            process.kill()
            process.communicate()

    def _pod(self, namespace: str, name: str, address: str) -> CniPod:
        netns = self.world.namespace_path(f"cni-{name}")
        return CniPod(namespace=namespace, name=name, netns=netns, address=address)

    def _conflist(self) -> Mapping[str, Any]:
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": f"{PREFIX}.0.0/16"}]],
            "dataDir": str(self.world.directory / "ipam"),
        }
        bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
        ours = {"type": "tidegate-cni", "socket": str(self.cni_socket), "timeoutSeconds": 20}
        return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ours]}


@contextmanager
def cni_scene(
    *, pods: int, fence: bool = True, settings: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[CniScene]:
    """A scene whose agent runs, unless `settings` make it one that the test has to start.

    Everything is gone afterwards.
    """
    subprocess.run(["make", "-s", "-C", str(PROJECT / "cni")], check=True)
    with World(ECOMMERCE) as world:
        scene = CniScene(world, pods=pods, fence=fence, settings=settings)
        try:
            if not settings:
                scene.agents.start(NODE)
            yield scene
        finally:
            scene.remove_namespaces()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
