"""An agent learns of its node's pods from a real API server, and of their interfaces from a real kernel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from netpolicy.inventory import Inventory, Pod, labels_of
from netpolicy.kube_api import KubeApi
from nodeagent.endpoints.cri import ContainerRuntime
from nodeagent.endpoints.kubernetes import KubernetesPods
from nodeagent.endpoints.local_pods import local_view
from nodeagent.endpoints.pod_interfaces import PodInterfaces
from tests.support.beside import beside
from tests.support.cluster_node import PODS, ClusterNode, cluster_node
from tests.support.cri_server import Sandbox, StandInRuntime, serving_runtime
from tests.support.cut_line import cut_line
from tests.support.kernel_pods import enter
from tests.support.kube_node import Cluster
from tests.support.kube_scene import make_namespace
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import until

pytestmark = pytest.mark.cluster
if os.geteuid() != 0:
    pytest.skip("needs root: pods' cables are made", allow_module_level=True)


@pytest.fixture
def node() -> Iterator[ClusterNode]:
    with cluster_node() as made:
        yield made


@pytest.fixture
def cluster(server: KubeServer, request: pytest.FixtureRequest) -> Cluster:
    name = f"agent-pods-{abs(hash(request.node.name)) % 100_000}"
    made = Cluster(server, make_namespace(server, name), f"node-{name}")
    made.add_node()
    return made


class Seen:
    """The inventories that came, the last one last."""

    def __init__(self) -> None:
        self.all: list[Inventory] = []

    @property
    def pods(self) -> dict[str, Pod]:
        return {pod.name: pod for pod in self.all[-1].pods} if self.all else {}

    @property
    def interfaces(self) -> dict[str, str]:
        return {name: pod.interface for name, pod in self.pods.items()}


@asynccontextmanager
async def agent(
    cluster: Cluster, node: ClusterNode, socket: Path, kubeconfig: Path | None = None
) -> AsyncIterator[tuple[Seen, KubernetesPods]]:
    """The agent's source of pods: its questions to the kernel are asked in the node's namespace."""
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(2, initializer=enter, initargs=(f"{node.prefix}-node",))
    loop.set_default_executor(threads)
    api = await KubeApi.connect(kubeconfig or cluster.server.kubeconfig)
    runtime = ContainerRuntime(socket)
    pods = KubernetesPods(api, node=cluster.node, cluster="test", interfaces=PodInterfaces(runtime))
    seen = Seen()

    async def gather() -> None:
        async for inventory in pods.inventories():
            seen.all.append(inventory)

    try:
        async with beside(pods.run()), beside(gather()):
            yield seen, pods
    finally:
        await runtime.close()
        await api.close()


async def elsewhere(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Do something that waits, in a thread of the host's own namespace."""
    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(
            thread, lambda: work(*arguments, **named)
        )


def test_the_nodes_pods_are_known_with_labels_ports_and_interfaces(
    cluster: Cluster, node: ClusterNode, tmp_path: Path
) -> None:
    runtime = StandInRuntime()
    for pod, (_, addresses) in PODS.items():
        uid = cluster.add_pod(pod)
        cluster.say_addresses(pod, addresses)
        runtime.sandboxes.append(Sandbox(id=f"s-{pod}", uid=uid, netns=str(node.netns(pod))))
    cluster.add_pod("far", node="another")
    cluster.add_pod("host", hostNetwork=True)
    cluster.say_addresses("host", ("192.0.2.1",))
    cluster.add_pod("ended")
    cluster.say_addresses("ended", ("10.1.0.9",), phase="Succeeded")
    cluster.core.patch_namespace(cluster.namespace, {"metadata": {"labels": {"team": "shop"}}})

    async def scenario() -> None:
        async with (
            serving_runtime(tmp_path / "cri.sock", runtime),
            agent(cluster, node, tmp_path / "cri.sock") as (seen, pods),
        ):
            await until(lambda: all(seen.interfaces.get(pod) for pod in PODS))
            assert seen.interfaces == {pod: interface for pod, (interface, _) in PODS.items()}
            inventory, web = seen.all[-1], seen.pods["b1"]
            assert web.mac == node.mac("b1")
            assert web.uid == runtime.sandboxes[0].uid
            assert [(port.name, port.port) for port in web.ports] == [("web", 8080)]
            labels = {str(label) for label in labels_of(inventory, web)}
            assert any("app=b1" in label for label in labels)
            assert any("namespace.labels.team=shop" in label for label in labels)
            assert any("serviceaccount=shopkeeper" in label for label in labels)
            view = local_view(inventory, cluster.node)
            assert {pod.name: set(pod.addresses) for pod in view.pods} == {
                pod: set(addresses) for pod, (_, addresses) in PODS.items()
            }
            assert view.node_addresses == ("192.0.2.1",)
            assert any("zone=a" in str(label) for label in view.node_labels)
            assert pods.alarms() == ()
            patch = {"metadata": {"labels": {"team": "warehouse"}}}
            await elsewhere(cluster.core.patch_namespace, cluster.namespace, patch)
            await until(lambda: "warehouse" in str(labels_of(seen.all[-1], seen.pods["b1"])))

    asyncio.run(scenario())


def test_a_pod_is_there_until_it_is_gone(
    cluster: Cluster, node: ClusterNode, tmp_path: Path
) -> None:
    cluster.add_pod("r1", terminationGracePeriodSeconds=600)
    cluster.say_addresses("r1", PODS["r1"][1])

    async def scenario() -> None:
        async with agent(cluster, node, tmp_path / "none.sock") as (seen, pods):
            await until(lambda: seen.interfaces == {"r1": "calir1"})
            assert any("container runtime" in alarm for alarm in pods.alarms())
            name, namespace = "r1", cluster.namespace
            await elsewhere(cluster.core.delete_namespaced_pod, name, namespace)
            left = await elsewhere(cluster.core.read_namespaced_pod, name, namespace)
            assert left.metadata.deletion_timestamp is not None
            cluster.core.patch_namespaced_pod(
                name, namespace, {"metadata": {"labels": {"last": "1"}}}
            )
            await until(lambda: seen.pods["r1"].labels.get("last") == "1")
            assert seen.interfaces == {"r1": "calir1"}
            delete = cluster.core.delete_namespaced_pod
            await elsewhere(delete, name, namespace, grace_period_seconds=0)
            await until(lambda: not seen.pods)

    asyncio.run(scenario())


def test_an_address_that_comes_before_the_network_is_placed_when_that_is_there(
    cluster: Cluster, node: ClusterNode, tmp_path: Path
) -> None:
    node.remove_pod("b2")
    uid = cluster.add_pod("b2")
    runtime = StandInRuntime()

    async def scenario() -> None:
        async with (
            serving_runtime(tmp_path / "cri.sock", runtime),
            agent(cluster, node, tmp_path / "cri.sock") as (seen, pods),
        ):
            await until(lambda: seen.interfaces == {"b2": ""})
            assert pods.alarms() == ()
            await elsewhere(cluster.say_addresses, "b2", PODS["b2"][1])
            await until(lambda: any("b2" in alarm for alarm in pods.alarms()))
            await elsewhere(node.add_pod, "b2")
            runtime.sandboxes.append(Sandbox(id="s", uid=uid, netns=str(node.netns("b2"))))
            pods.look_again()
            await until(lambda: seen.interfaces == {"b2": "vethb2"})
            assert pods.alarms() == ()

    asyncio.run(scenario())


def test_while_the_api_server_is_away_the_pods_stay_and_an_alarm_says_so(
    cluster: Cluster, node: ClusterNode, tmp_path: Path
) -> None:
    cluster.add_pod("r2")
    cluster.say_addresses("r2", PODS["r2"][1])

    async def scenario() -> None:
        async with cut_line(urlsplit(cluster.server.url).port or 0) as line:
            kubeconfig = tmp_path / "line.kubeconfig"
            text = cluster.server.kubeconfig.read_text()
            url = f"https://127.0.0.1:{line.port}"
            kubeconfig.write_text(text.replace(cluster.server.url, url))
            async with agent(cluster, node, tmp_path / "none.sock", kubeconfig) as (seen, pods):
                await until(lambda: seen.interfaces == {"r2": "calir2"})
                line.cut()
                await until(lambda: any("API server" in alarm for alarm in pods.alarms()))
                await elsewhere(
                    cluster.core.delete_namespaced_pod,
                    "r2",
                    cluster.namespace,
                    grace_period_seconds=0,
                )
                assert seen.interfaces == {"r2": "calir2"}
                line.mend()
                await until(lambda: not seen.pods)
                await until(lambda: not any("API server" in each for each in pods.alarms()))

    asyncio.run(scenario())
