"""Start and stop pods as a container runtime does: libcni's way to call a chain of real plugins.

In:   a conflist, a World's node
Out:  results of ADD; CniError with what the plugin printed
Shell over plugin processes in the node's namespace.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.world import PROJECT, World

DEBIAN_PLUGINS: Final = Path("/usr/lib/cni")
OURS: Final = PROJECT / "build" / "cni"


class CniError(Exception):
    """A plugin failed; `code` is the specification's."""

    def __init__(self, plugin: str, code: int, text: str) -> None:
        super().__init__(f"{plugin}: {code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class CniPod:
    """A pod to start: its name is its network namespace's place in the world, and its container's."""

    namespace: str
    name: str
    netns: Path
    address: str = ""
    uid: str = ""

    @property
    def arguments(self) -> str:
        """CNI_ARGS, with the address to be given if there is one."""
        given = f"IP={self.address};" if self.address else ""
        return (
            f"IgnoreUnknown=1;{given}K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME={self.name}"
            f";K8S_POD_INFRA_CONTAINER_ID={self.name};K8S_POD_UID={self.uid}"
        )


class CniRuntime:
    """Calls the plugins of a conflist, one after the other, each with the result before it."""

    def __init__(self, world: World, node: str, conflist: Mapping[str, Any]) -> None:
        self._world = world
        self._node = node
        self.conflist = conflist

    def add(self, pod: CniPod) -> Mapping[str, Any]:
        """Start a pod; return the last plugin's result. Like a runtime, undo it all if one fails."""
        result: Mapping[str, Any] | None = None
        try:
            for plugin in self.conflist["plugins"]:
                result = self.call("ADD", plugin, pod, result)
        except CniError:
            self.delete(pod, result)
            raise
        assert result is not None
        return result

    def check(self, pod: CniPod, result: Mapping[str, Any]) -> None:
        for plugin in self.conflist["plugins"]:
            self.call("CHECK", plugin, pod, result)

    def delete(self, pod: CniPod, result: Mapping[str, Any] | None) -> None:
        for plugin in reversed(self.conflist["plugins"]):
            self.call("DEL", plugin, pod, result)

    def call(
        self,
        command: str,
        plugin: Mapping[str, Any],
        pod: CniPod,
        result: Mapping[str, Any] | None,
    ) -> Mapping[str, Any] | None:
        """Run one plugin; raise CniError if it fails."""
        configuration = {
            "cniVersion": self.conflist["cniVersion"],
            "name": self.conflist["name"],
            **plugin,
        }
        if result is not None:
            configuration["prevResult"] = result
        name = plugin["type"]
        folder = OURS if (OURS / name).exists() else DEBIAN_PLUGINS
        done = subprocess.run(
            self._world.enter(self._node, [str(folder / name)]),
            input=json.dumps(configuration),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": pod.name,
                "CNI_NETNS": str(pod.netns),
                "CNI_IFNAME": "eth0",
                "CNI_ARGS": pod.arguments,
                "CNI_PATH": str(DEBIAN_PLUGINS),
            },
        )
        if done.returncode:
            raise _error(name, done)
        return json.loads(done.stdout) if done.stdout.strip() else None


def _error(name: str, done: subprocess.CompletedProcess[str]) -> CniError:
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return CniError(name, 0, f"{done.stdout!r} {done.stderr!r}")
    return CniError(name, told["code"], f"{told['msg']}: {told.get('details', '')}")
