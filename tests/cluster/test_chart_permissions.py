"""The chart's roles against what the programs ask of a real API server: nothing missing, nothing too much."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from netpolicy.errors import StalledError
from netpolicy.kube_api import KubeApi
from nodeagent.endpoints.kubernetes import KubernetesPods
from nodeagent.endpoints.pod_interfaces import PodInterfaces
from reconciler.bootstrap.refused import Refused
from reconciler.bootstrap.reviews import TokenReviews
from reconciler.bootstrap.speaker import AUDIENCE, AgentAccount
from reconciler.in_cluster import reporter
from reconciler.validate.lifelines import RECONCILER
from tests.support.kube_audit import grants_of, requests_of
from tests.support.kube_replicas import Cluster
from tests.support.kube_scene import apply
from tests.support.kube_server import AUDIT_LOG, KubeServer
from tests.support.push_fleet import until
from tests.support.reconciler_scene import deny

pytestmark = pytest.mark.cluster

NAMESPACE = RECONCILER.namespace
A = "policies/shop/a.yaml"


def account(name: str) -> str:
    """The user that a pod of this service account is."""
    return f"system:serviceaccount:{NAMESPACE}:{name}"


def with_roles_of(server: KubeServer, name: str) -> tuple[KubeServer, list[dict[str, Any]]]:
    """The server as a service account sees it that has the chart's roles, and these."""
    text = server.helm("template", "tidegate", "charts/tidegate", "--namespace", NAMESPACE)
    objects = [
        each
        for each in yaml.safe_load_all(text)
        if each["apiVersion"].startswith("rbac.") and each["metadata"]["name"] == name
    ]
    apply(server, *objects)
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}")
    seen = replace(server, kubeconfig=server.kubeconfig_of(account(name), groups=groups))
    return seen, [each for each in objects if each["kind"] in ("Role", "ClusterRole")]


def check_roles(server: KubeServer, name: str, roles: list[dict[str, Any]]) -> None:
    """Every request was let pass, and every rule was needed for one."""
    passed, forbidden = requests_of(server.folder / AUDIT_LOG, account(name))
    assert not forbidden
    unused = [grant for grant in grants_of(roles) if not any(map(grant.covers, passed))]
    assert not unused
    everybodys = [asked for asked in passed if not any(g.covers(asked) for g in grants_of(roles))]
    assert not everybodys


def test_the_reconciler_asks_for_all_that_its_roles_allow_and_no_more(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "KEPT_ROLLOUTS", 1)  # the fourth revision deletes the first's
    cluster = Cluster.make(server, NAMESPACE, tmp_path)
    seen, roles = with_roles_of(server, "tidegate-reconciler")
    as_pod = Cluster(server=seen, namespace=NAMESPACE, scene=cluster.scene)

    async def script() -> None:
        secret = {"metadata": {"name": "git"}, "stringData": {"username": "a", "password": "b"}}
        cluster.core.create_namespaced_secret(NAMESPACE, secret)
        cluster.follow(secretRef={"name": "git"})
        async with as_pod.replica(port=cluster.scene.port), cluster.scene.agent():
            first = ""
            for number in range(4):
                revision = cluster.scene.repository.commit({A: deny(f"policy-{number}")})
                first = first or revision
                await until_told(lambda: cluster.phase(revision) == "Promoted")  # noqa: B023
            await until_told(lambda: first not in cluster.rollouts())
            await until_told(lambda: ("Normal", "Begun") in cluster.events())
        await review_a_token(cluster, seen)

    try:
        asyncio.run(script())
        check_roles(server, "tidegate-reconciler", roles)
    finally:
        server.kubectl("delete", "prepo,pro,secrets,pods,sa,lease", "--all", "-n", NAMESPACE)


def test_an_agent_asks_for_all_that_its_role_allows_and_no_more(server: KubeServer) -> None:
    seen, roles = with_roles_of(server, "tidegate-nodeagent")

    async def script() -> None:
        api = await KubeApi.connect(seen.kubeconfig)
        pods = KubernetesPods(api, node="node-a", cluster="default", interfaces=PodInterfaces(None))
        task = asyncio.create_task(pods.run())
        try:
            await until_told(lambda: watches(server, account("tidegate-nodeagent")) == 3)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await api.close()

    asyncio.run(script())
    check_roles(server, "tidegate-nodeagent", roles)


async def review_a_token(cluster: Cluster, seen: KubeServer) -> None:
    """Ask which node an agent's token speaks for, as the reconciler does."""
    core = cluster.core
    name = "tidegate-nodeagent"
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": name}})
    pod = {
        "metadata": {"name": "agent"},
        "spec": {
            "nodeName": "node-a",
            "serviceAccountName": name,
            "containers": [{"name": "agent", "image": "none"}],
        },
    }
    made = core.create_namespaced_pod(NAMESPACE, pod)
    bound = {"kind": "Pod", "apiVersion": "v1", "name": "agent", "uid": made.metadata.uid}
    asked = client.AuthenticationV1TokenRequest(
        spec={"audiences": [AUDIENCE], "expirationSeconds": 600, "boundObjectRef": bound}
    )
    token = core.create_namespaced_service_account_token(name, NAMESPACE, asked).status.token
    api = await KubeApi.connect(seen.kubeconfig)
    try:
        reviews = TokenReviews(api, AgentAccount(namespace=NAMESPACE, name=name))
        with suppress(Refused, StalledError):
            assert await reviews.node_of(token) == "node-a"
    finally:
        await api.close()


def watches(server: KubeServer, user: str) -> int:
    passed, _ = requests_of(server.folder / AUDIT_LOG, user)
    return sum(asked.verb == "watch" for asked in passed)


async def until_told(claim: Any) -> None:
    """Wait for what the server shows, without holding up the loop that is asked about."""
    told: list[bool] = []

    async def ask() -> None:
        while not await asyncio.to_thread(claim):
            await asyncio.sleep(0.1)
        told.append(True)

    task = asyncio.create_task(ask())
    try:
        await until(lambda: bool(told) or task.done())
        await task
    finally:
        task.cancel()
