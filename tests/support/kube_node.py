"""A node and its pods as a kubelet and a scheduler would tell the API server of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubernetes import client

from tests.support.kube_server import KubeServer


@dataclass
class Cluster:
    """A namespace on the API server, and a node whose name nobody else uses."""

    server: KubeServer
    namespace: str
    node: str

    @property
    def core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.server.api_client())

    def add_node(self) -> None:
        """The node as its kubelet registers it."""
        self.core.create_node({"metadata": {"name": self.node, "labels": {"zone": "a"}}})
        addresses = [
            {"type": "InternalIP", "address": "192.0.2.1"},
            {"type": "Hostname", "address": self.node},
        ]
        self.core.patch_node_status(self.node, {"status": {"addresses": addresses}})

    def add_pod(self, name: str, *, node: str = "", **spec: Any) -> str:
        """A pod as scheduler and kubelet make it; returns its uid."""
        ports = [{"name": "web", "containerPort": 8080}]
        body = {
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "nodeName": node or self.node,
                "serviceAccountName": "shopkeeper",
                "containers": [{"name": "c", "image": "none", "ports": ports}],
                **spec,
            },
        }
        return str(self.core.create_namespaced_pod(self.namespace, body).metadata.uid)

    def say_addresses(self, name: str, addresses: tuple[str, ...], phase: str = "Running") -> None:
        """What the kubelet says once the pod runs."""
        ips = [{"ip": address} for address in addresses]
        status = {"phase": phase, "podIP": addresses[0], "podIPs": ips}
        self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status})
