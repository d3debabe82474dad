"""The chart's roles against what the programs ask of a real API server: nothing missing, nothing too much.

Both run as the chart's own service accounts, by tokens, through what they do in a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from kubernetes import client

from netpolicy.inventory import Inventory
from netpolicy.kube_api import KubeApi
from nodeagent.bootstrap import BootstrapConfig
from nodeagent.bootstrap.client import ask
from nodeagent.bootstrap.credential import new_key, request_for, take
from nodeagent.endpoints.kubernetes import KubernetesPods
from nodeagent.endpoints.pod_interfaces import PodInterfaces
from reconciler.in_cluster.reporter import KEPT_ROLLOUTS
from reconciler.validate.lifelines import RECONCILER
from tests.cluster.test_reconciler import A, B, until
from tests.support.beside import beside
from tests.support.kube_audit import Request, asked_by, grants_of, missing, unused
from tests.support.kube_bootstrap import ACCOUNT, start_pod, token_of
from tests.support.kube_replicas import GROUP, VERSION, Cluster
from tests.support.kube_scene import apply, install_crds, make_namespace
from tests.support.kube_server import AUDIT_LOG, KubeServer
from tests.support.push_fleet import PATIENCE_SECONDS
from tests.support.reconciler_scene import a_free_port, deny

pytestmark = pytest.mark.cluster

NAMESPACE = RECONCILER.namespace
IN_NAMESPACE = ("--namespace", NAMESPACE)
CHART = "charts/tidegate"
RECONCILER_ACCOUNT = "tidegate-reconciler"
NODE = "node-a"


@pytest.fixture(scope="module")
def roles(server: KubeServer) -> Iterator[list[dict[str, Any]]]:
    """The chart, installed; the roles that it made."""
    server.kubectl("create", "namespace", NAMESPACE, check=False)
    install_crds(server)
    server.helm("install", "tidegate", CHART, *IN_NAMESPACE)
    manifest = server.helm("get", "manifest", "tidegate", *IN_NAMESPACE)
    rendered = [each for each in yaml.safe_load_all(manifest) if each]
    yield [each for each in rendered if each["kind"] in ("Role", "ClusterRole")]
    server.helm("uninstall", "tidegate", *IN_NAMESPACE)
    of_ours = "prepo,pro,pods,lease,events,secrets"
    at_once = ("--force", "--grace-period=0")  # no kubelet ends the pods
    server.kubectl("delete", "-n", NAMESPACE, of_ours, "--all", *at_once)


def asked(server: KubeServer, account: str) -> frozenset[Request]:
    """What a service account asked for until now."""
    return asked_by(server.folder / AUDIT_LOG, f"system:serviceaccount:{NAMESPACE}:{account}")


def check(server: KubeServer, roles: list[dict[str, Any]], account: str) -> None:
    """Each request is granted, and each grant was needed."""
    grants = grants_of(role for role in roles if role["metadata"]["name"] == account)
    seen = asked(server, account)
    assert missing(seen, grants) == []
    assert unused(seen, grants) == []


def old_rollouts() -> list[dict[str, Any]]:
    """As many as are kept, and one more."""
    return [
        {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "PolicyRollout",
            "metadata": {"name": f"policies-{number}", "namespace": NAMESPACE},
            "spec": {"repository": "policies", "revision": f"{number:040x}"},
        }
        for number in range(KEPT_ROLLOUTS + 1)
    ]


def test_the_reconciler_asks_for_all_that_its_roles_allow_and_no_more(
    server: KubeServer, roles: list[dict[str, Any]], tmp_path: Path
) -> None:
    """It follows a repository with a secret, brings a revision out, tells of it, tidies up, certifies."""
    cluster = Cluster.make(server, NAMESPACE, tmp_path)
    secret = {"metadata": {"name": "git"}, "stringData": {"username": "a", "password": "b"}}
    cluster.core.create_namespaced_secret(NAMESPACE, secret)
    make_namespace(server, "shop")
    apply(server, *old_rollouts())
    start_pod(server, "agent", node=NODE, namespace=NAMESPACE)
    token = token_of(server, "agent", namespace=NAMESPACE)
    bootstrap = f"127.0.0.1:{a_free_port()}"
    kubeconfig = server.kubeconfig_of_account(NAMESPACE, RECONCILER_ACCOUNT)

    async def script() -> None:
        revision = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(secretRef={"name": "git"}, syncToCluster=True)
        async with (
            cluster.replica(port=cluster.scene.port, bootstrap=bootstrap, kubeconfig=kubeconfig),
            cluster.scene.agent(),
        ):
            await until(lambda: cluster.phase(revision) == "Promoted")
            await until(lambda: cluster.status().get("lastAppliedRevision") == revision)
            await until(lambda: ("Normal", "Begun") in cluster.events())
            await until(lambda: cluster.status()["mirror"].get("copies") == 1)
            cluster.scene.repository.commit({B: deny("b")}, delete=[A])
            await until(lambda: mirrored_names(cluster) == ["cnp.b"])
            await until(lambda: f"{0:040x}" not in cluster.rollouts())
            await get_certificate(cluster.scene.keys, bootstrap, token, tmp_path)

    asyncio.run(script())
    check(server, roles, RECONCILER_ACCOUNT)


def mirrored_names(cluster: Cluster) -> list[str]:
    """The copies of policies that there are."""
    found = cluster.objects.list_cluster_custom_object(GROUP, VERSION, "mirroredpolicies")
    return sorted(one["metadata"]["name"] for one in found["items"])


async def get_certificate(keys: Path, address: str, token: str, folder: Path) -> None:
    """Ask as an agent does that has none."""
    (folder / "token").write_text(token)
    config = BootstrapConfig(
        node=NODE,
        address=address,
        server_name="localhost",
        ca=keys / "tls" / "ca.pem",
        token=folder / "token",
        credential=folder / "node.pem",
    )
    key = new_key()
    assert take(await ask(config, request_for(NODE, key)), key, node=NODE)


def test_an_agent_asks_for_all_that_its_role_allows_and_no_more(
    server: KubeServer, roles: list[dict[str, Any]]
) -> None:
    """It lists, and hears of a change of each kind: a quiet watch is not in the server's log yet."""
    kubeconfig = server.kubeconfig_of_account(NAMESPACE, ACCOUNT)
    mark = f"mark={uuid4().hex}"

    async def script() -> None:
        async with following(kubeconfig) as pods:
            inventories = aiter(pods.inventories())
            await anext(inventories)
            await asyncio.to_thread(change_each_kind, server, mark)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not knows(await anext(inventories), mark):
                    pass

    asyncio.run(script())
    check(server, roles, ACCOUNT)


def change_each_kind(server: KubeServer, mark: str) -> None:
    """Label a namespace, this node and a pod of it."""
    core = client.CoreV1Api(server.api_client())
    with suppress(client.ApiException):  # another test made it
        core.create_node({"metadata": {"name": NODE}})
    start_pod(server, mark.replace("=", "-"), node=NODE, namespace=NAMESPACE)
    for each in (f"namespace/{NAMESPACE}", f"node/{NODE}"):
        server.kubectl("label", "--overwrite", each, mark)


def knows(inventory: Inventory, mark: str) -> bool:
    """True if all three changes are there."""
    key, _, value = mark.partition("=")
    return (
        any(pod.name == f"{key}-{value}" for pod in inventory.pods)
        and any(node.labels.get(key) == value for node in inventory.nodes)
        and inventory.namespaces[NAMESPACE].get(key) == value
    )


@asynccontextmanager
async def following(kubeconfig: Path) -> AsyncIterator[KubernetesPods]:
    """An agent's eyes on the API server, its only part that speaks to one."""
    api = await KubeApi.connect(kubeconfig)
    pods = KubernetesPods(api, node=NODE, cluster="default", interfaces=PodInterfaces(None))
    try:
        async with beside(pods.run()):
            yield pods
    finally:
        await api.close()
