"""A large cluster in a real API server: nodes and pods that nobody runs.

In:   a KubeMachine, how many nodes and pods
Out:  objects in the server; pods of the benchmark's own, one by one
Shell. What is there from the start is put into etcd itself, as the API server would store it: through
the API it would take longer than all that is measured.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final
from urllib.request import Request, urlopen

from kubernetes import client

from benchmarks.scale_agents import PROBE, name_of
from tests.support.kube_server import KubeMachine

NAMESPACES: Final = 100
APPS: Final = 1_000
PUTS_AT_ONCE: Final = 100
CREATED: Final = "2026-01-01T00:00:00Z"


def fill(machine: KubeMachine, *, nodes: int, pods: int) -> None:
    """Put everything there."""
    things = (*_namespaces(), *(_node(number) for number in range(nodes)))
    _put(machine, (*things, *(_pod(number, nodes) for number in range(pods))))


class Probes:
    """Pods of the benchmark's own."""

    def __init__(self, machine: KubeMachine) -> None:
        self._core = client.CoreV1Api(machine.server.api_client())
        self._made = 0

    def make(self) -> str:
        """A pod that has a node and no address yet, as while it starts; returns its name."""
        self._made += 1
        name = f"{PROBE}{self._made:04}"
        body: Any = {
            "metadata": {"name": name, "labels": {"app": "probe"}},
            "spec": {"nodeName": name_of(0), "containers": [{"name": "c", "image": "i"}]},
        }
        self._core.create_namespaced_pod(_namespace(0), body)
        return name

    def give_address(self, name: str) -> None:
        """What a kubelet writes when the pod's network stands."""
        number = int(name.removeprefix(PROBE))
        address = f"10.250.{number // 250}.{number % 250 + 1}"
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        self._core.patch_namespaced_pod_status(name, _namespace(0), {"status": status})


def _namespace(number: int) -> str:
    return f"scale-{number % NAMESPACES:03}"


def _namespaces() -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(NAMESPACES):
        name = _namespace(number)
        body = {**_head("Namespace", name), "status": {"phase": "Active"}}
        yield f"/registry/namespaces/{name}", body


def _node(number: int) -> tuple[str, dict[str, Any]]:
    name, address = name_of(number), f"10.{number // 250}.{number % 250}.1"
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return f"/registry/minions/{name}", {**_head("Node", name), "status": status}


def _pod(number: int, nodes: int) -> tuple[str, dict[str, Any]]:
    """One of many: as many apps as there are share all pods, and each node has its share."""
    namespace, name = _namespace(number % APPS), f"app-{number % APPS:04}-{number:06}"
    address = f"10.{100 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
    labels = {"app": f"app-{number % APPS:04}", "pod-template-hash": f"{number % APPS:09}"}
    body = {
        **_head("Pod", name, namespace=namespace, labels=labels),
        "spec": {
            "nodeName": name_of(number % nodes),
            "serviceAccountName": "default",
            "containers": [{"name": "c", "image": "registry.example/app:1"}],
        },
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }
    return f"/registry/pods/{namespace}/{name}", body


def _head(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    uid = f"{kind}/{metadata.get('namespace', '')}/{name}"
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "uid": uid, "creationTimestamp": CREATED, **metadata},
    }


def _put(machine: KubeMachine, things: Iterable[tuple[str, dict[str, Any]]]) -> None:
    left = iter(things)
    while some := list(islice(left, PUTS_AT_ONCE)):
        puts = [
            {"requestPut": {"key": _coded(key), "value": _coded(json.dumps(value))}}
            for key, value in some
        ]
        body = json.dumps({"success": puts}).encode()
        with urlopen(Request(f"{machine.etcd_url}/v3/kv/txn", data=body)) as answer:
            answer.read()


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
