"""Services of a real API server, as an agent hears of them from a real reconciler."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from netpolicy.rules import Protocol
from netpolicy.services import ClusterService, ServicePort, service_of
from tests.cluster.test_reconciler import A, until
from tests.support.kube_replicas import Cluster
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import Node
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import deny, names_of

pytestmark = pytest.mark.cluster

NAMESPACE = "services"
PORTS: list[dict[str, Any]] = [
    {"name": "web", "port": 80, "targetPort": "http"},
    {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
]


def told(node: Node) -> dict[str, ClusterService]:
    """Address → the service behind it, as the agent was told last."""
    entries = node.inventories[-1] if node.inventories else ()
    found = {entry.address: service_of(entry.labels) for entry in entries}
    return {address: each for address, each in found.items() if each is not None}


def service(name: str, **spec: Any) -> dict[str, Any]:
    labels = {"team": "shop"}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"ports": PORTS, **spec}}


def test_a_service_is_told_with_its_ports_and_follows_what_becomes_of_it(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, NAMESPACE, tmp_path)
        core = cluster.core
        cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        made = core.create_namespaced_service(NAMESPACE, service("web", selector={"app": "web"}))
        address = made.spec.cluster_ip
        headless = service("headless", selector={"app": "web"}, clusterIP="None")
        core.create_namespaced_service(NAMESPACE, headless)
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent() as node:
            await until_true(lambda: names_of(node) == ["a"])
            await until_true(lambda: address in told(node))
            assert told(node)[address] == ClusterService(
                namespace=NAMESPACE,
                name="web",
                labels={"team": "shop"},
                selector={"app": "web"},
                ports=(
                    ServicePort(protocol=Protocol.TCP, port=80, target_name="http"),
                    ServicePort(protocol=Protocol.UDP, port=53, target=5353),
                ),
            )
            ours = [each.name for each in told(node).values() if each.namespace == NAMESPACE]
            assert ours == ["web"]  # one without an address is nothing that a packet goes to
            wanted = {"spec": {"selector": {"app": "other"}}}
            await asyncio.to_thread(core.patch_namespaced_service, "web", NAMESPACE, wanted)
            await until_true(lambda: dict(told(node)[address].selector) == {"app": "other"})
            words = ("delete", "service", "-n", NAMESPACE, "web")
            await asyncio.to_thread(server.kubectl, *words)
            await until_true(lambda: address not in told(node))
            await until(lambda: cluster.reason() == "Succeeded")

    asyncio.run(script())
