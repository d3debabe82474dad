"""Our copies of a real API server's objects: pages, events, 410, and a server that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes import client

from netpolicy import kube_watch
from netpolicy.inventory import Inventory
from netpolicy.kube_api import KubeApi
from netpolicy.kube_objects import PODS, KubeObject, PodObject
from netpolicy.kube_watch import KubeWatch
from netpolicy.watch_cache import WatchCache
from reconciler.cluster.inventory import ClusterInventory
from tests.support.beside import beside
from tests.support.cut_line import cut_line
from tests.support.kube_scene import apply, install_crds, make_namespace, repository
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import until

pytestmark = pytest.mark.cluster


def core(server: KubeServer) -> client.CoreV1Api:
    return client.CoreV1Api(server.api_client())


def make_pod(
    server: KubeServer, namespace: str, name: str, address: str = "", **labels: str
) -> None:
    pod = {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "node-a", "containers": [{"name": "c", "image": "none"}]},
    }
    core(server).create_namespaced_pod(namespace, pod)
    if address:
        status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}}
        core(server).patch_namespaced_pod_status(name, namespace, status)


def tell_api_server(server: KubeServer, address: str) -> None:
    """What the API server's own controller would write; it is off here."""
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"port": 6443}]}],
    }
    apply(server, endpoints)


def delete_pod(server: KubeServer, namespace: str, name: str) -> None:
    core(server).delete_namespaced_pod(name, namespace, grace_period_seconds=0)


def revision_of(one: PodObject) -> str:
    return one.metadata.labels.get("revision", "") if one.metadata.labels else ""


@asynccontextmanager
async def connected(server: KubeServer, port: int = 0) -> AsyncIterator[KubeApi]:
    """A client, perhaps through a line at another port."""
    path = server.kubeconfig
    if port:
        path = server.folder / f"line-{port}.kubeconfig"
        url = f"https://127.0.0.1:{port}"
        path.write_text(server.kubeconfig.read_text().replace(server.url, url))
    api = await KubeApi.connect(path)
    try:
        yield api
    finally:
        await api.close()


@asynccontextmanager
async def following(
    api: KubeApi, namespace: str, cache: WatchCache[str] | None = None
) -> AsyncIterator[dict[str, str]]:
    """The pods of a namespace as they are known, name → label `revision`."""
    shown: dict[str, str] = {}

    def show() -> None:
        shown.clear()
        shown.update({name: text for (_, name), text in watch.cache.items.items()})

    path = f"/api/v1/namespaces/{namespace}/pods"
    watch = KubeWatch(api, path, PodObject, revision_of, changed=show, cache=cache)
    async with beside(watch.run()):
        yield shown


def run(script: Callable[[], Any]) -> None:
    asyncio.run(script())


def test_what_is_there_and_what_comes_and_goes_is_seen(
    server: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_watch, "PAGE_ITEMS", 2)  # five pods: three pages
    namespace = make_namespace(server, "informer-pages")
    for name in "abcde":
        make_pod(server, namespace, name, revision="1")

    async def script() -> None:
        async with connected(server) as api, following(api, namespace) as shown:
            await until(lambda: sorted(shown) == list("abcde"))
            await asyncio.to_thread(make_pod, server, namespace, "f", revision="2")
            await until(lambda: shown.get("f") == "2")
            await asyncio.to_thread(delete_pod, server, namespace, "a")
            await until(lambda: "a" not in shown)
            assert api.writes == 0

    run(script)


def test_a_version_that_is_too_old_is_answered_410_and_listed_anew_without_emptying(
    server: KubeServer,
) -> None:
    install_crds(server)  # kinds that are younger than version 1
    namespace = make_namespace(server, "informer-gone")
    apply(server, repository(namespace, "new"))
    path = f"/apis/tidegate.dev/v1alpha1/namespaces/{namespace}/policyrepositories"
    held: list[tuple[str, ...]] = []

    class Kept(WatchCache[str]):
        def broke(self) -> None:
            super().broke()
            held.append(tuple(name for _, name in self.items))

    async def script() -> None:
        cache = Kept()
        now = asyncio.get_running_loop().time()
        cache.page([((namespace, "old"), "0")], version="1", token="", now=now)
        async with connected(server) as api:
            watch = KubeWatch(
                api,
                path,
                KubeObject,
                lambda one: one.metadata.uid,
                changed=lambda: None,
                cache=cache,
            )
            task = asyncio.create_task(watch.run())
            await until(lambda: [name for _, name in cache.items] == ["new"])
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert held == [("old",)], "the old copy stands until the new list is here"

    run(script)


def test_what_was_deleted_while_the_server_was_away_is_gone_when_it_is_back(
    server: KubeServer,
) -> None:
    namespace = make_namespace(server, "informer-away")
    make_pod(server, namespace, "stays", revision="1")
    make_pod(server, namespace, "goes", revision="1")

    async def script() -> None:
        port = urlsplit(server.url).port or 0
        async with (
            cut_line(port) as line,
            connected(server, line.port) as api,
            following(api, namespace) as shown,
        ):
            await until(lambda: sorted(shown) == ["goes", "stays"])
            line.cut()
            await asyncio.to_thread(delete_pod, server, namespace, "goes")
            await asyncio.to_thread(make_pod, server, namespace, "comes", revision="2")
            before = line.connections
            await until(lambda: line.connections > before)
            assert sorted(shown) == ["goes", "stays"], "nothing is forgotten meanwhile"
            line.mend()
            await until(lambda: sorted(shown) == ["comes", "stays"])

    run(script)


def test_a_watch_that_the_server_ends_goes_on_where_it_was(
    server: KubeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_watch, "WATCH_SECONDS", 1.0)
    namespace = make_namespace(server, "informer-ends")
    lists: list[str] = []

    class Counting(WatchCache[str]):
        def page(self, *args: Any, **named: Any) -> bool:
            lists.append(named["version"])
            return super().page(*args, **named)

    async def script() -> None:
        async with connected(server) as api, following(api, namespace, Counting()) as shown:
            await until(lambda: len(lists) == 1)
            for number in range(3):
                await asyncio.sleep(1.1)  # the length of a watch, so that each falls into another
                await asyncio.to_thread(make_pod, server, namespace, f"p{number}", revision="1")
                await until(lambda n=number: f"p{n}" in shown)
            assert len(lists) == 1, "nothing was listed again"

    run(script)


def test_the_inventory_of_a_cluster_has_its_nodes_namespaces_and_pods(server: KubeServer) -> None:
    namespace = make_namespace(server, "informer-inventory", team="shop")
    node = {
        "metadata": {"name": "node-inventory", "labels": {"zone": "a"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    }
    core(server).create_node(node)
    core(server).patch_node_status("node-inventory", node)
    make_pod(server, namespace, "web", "10.1.0.10", app="web")
    seen: list[Inventory] = []

    async def collect(inventory: ClusterInventory) -> None:
        async for one in inventory.steps():
            seen.append(one.inventory)

    def latest() -> dict[str, tuple[str, ...]]:
        found = seen[-1].pods if seen else ()
        return {pod.name: pod.addresses for pod in found if pod.namespace == namespace}

    async def script() -> None:
        async with connected(server) as api:
            inventory = ClusterInventory(api, cluster="west")
            tasks = [asyncio.create_task(each) for each in (inventory.run(), collect(inventory))]
            try:
                await until(lambda: latest() == {"web": ("10.1.0.10",)})
                assert seen[0].cluster == "west"
                assert dict(seen[0].namespaces[namespace]).items() >= {("team", "shop")}
                (found,) = [one for one in seen[0].nodes if one.name == "node-inventory"]
                assert (found.addresses, dict(found.labels)) == (("10.0.0.1",), {"zone": "a"})
                await asyncio.to_thread(tell_api_server, server, "192.0.2.9")
                await until(lambda: "192.0.2.9" in seen[-1].api_server)
                await asyncio.to_thread(make_pod, server, namespace, "db", "10.1.0.11")
                await until(lambda: latest().get("db") == ("10.1.0.11",))
                await asyncio.to_thread(delete_pod, server, namespace, "web")
                await until(lambda: "web" not in latest())
            finally:
                for task in tasks:
                    task.cancel()

    run(script)


def test_a_user_without_rights_is_told_and_tries_again(server: KubeServer) -> None:
    path = server.kubeconfig_of("nobody-watches")

    async def script() -> None:
        api = await KubeApi.connect(Path(path))
        failed: list[int] = []

        class Kept(WatchCache[str]):
            def broke(self) -> None:
                super().broke()
                failed.append(1)

        watch = KubeWatch(api, PODS, PodObject, revision_of, changed=lambda: None, cache=Kept())
        task = asyncio.create_task(watch.run())
        await until(lambda: len(failed) >= 2)
        assert not watch.cache.is_synced
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await api.close()

    run(script)
