"""A bootstrap server on a real API server, and the pods and tokens of agents that come to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from kubernetes import client

from netpolicy.kube_api import KubeApi
from nodeagent.bootstrap import BootstrapConfig
from reconciler.bootstrap import BootstrapConfig as ServerConfig
from reconciler.bootstrap import BootstrapServer
from reconciler.bootstrap.reviews import TokenReviews
from reconciler.bootstrap.speaker import AgentAccount
from reconciler.sign.certificates import certify_node
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import make_keys

NAMESPACE = "tidegate-bootstrap"
ACCOUNT = "tidegate-nodeagent"
DAY = timedelta(hours=24)


def make_accounts(server: KubeServer) -> None:
    """The namespace, with the agents' service account and another."""
    api = client.CoreV1Api(server.api_client())
    api.create_namespace({"metadata": {"name": NAMESPACE}})
    for name in (ACCOUNT, "default"):
        api.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": name}})


def start_pod(
    server: KubeServer,
    name: str,
    *,
    node: str,
    account: str = ACCOUNT,
    namespace: str = NAMESPACE,
) -> None:
    """What scheduler and DaemonSet would make."""
    spec = {
        "nodeName": node,
        "serviceAccountName": account,
        "containers": [{"name": "agent", "image": "none"}],
    }
    client.CoreV1Api(server.api_client()).create_namespaced_pod(
        namespace, {"metadata": {"name": name}, "spec": spec}
    )


def token_of(
    server: KubeServer,
    pod: str | None,
    *,
    account: str = ACCOUNT,
    audience: str = "tidegate-push",
    namespace: str = NAMESPACE,
) -> str:
    """What the kubelet would project into a pod; for None, a token that is bound to none."""
    api = client.CoreV1Api(server.api_client())
    spec: dict[str, object] = {"audiences": [audience], "expirationSeconds": 3600}
    if pod is not None:
        uid = api.read_namespaced_pod(pod, namespace).metadata.uid
        spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid}
    body = {"spec": spec}
    answer = api.create_namespaced_service_account_token(account, namespace, body)
    return str(answer.status.token)


@dataclass
class Place:
    """A bootstrap server, and how agents reach it."""

    keys: Path
    port: int
    folder: Path

    @property
    def root(self) -> Path:
        """The trusted root of what is signed."""
        return self.keys / "nodes" / "node-a" / "root.json"

    def config(self, node: str, token: str) -> BootstrapConfig:
        """An agent's configuration, its token in place."""
        path = self.folder / f"{node}.token"
        path.write_text(token + "\n")
        return BootstrapConfig(
            node=node,
            address=f"127.0.0.1:{self.port}",
            server_name="localhost",
            ca=self.keys / "tls" / "ca.pem",
            token=path,
            credential=self.folder / node / "node.pem",
        )


@asynccontextmanager
async def bootstrap(
    server: KubeServer, folder: Path, *, lifetime: timedelta = DAY
) -> AsyncIterator[Place]:
    """A bootstrap server on the real API server."""
    keys = make_keys(folder / "keys")
    api = await KubeApi.connect(server.kubeconfig)
    account = AgentAccount(namespace=NAMESPACE, name=ACCOUNT)
    started = BootstrapServer(
        ServerConfig(
            listen="127.0.0.1:0",
            certificate=keys / "tls" / "server.pem",
            key=keys / "tls" / "server.key",
        ),
        speakers=TokenReviews(api, account),
        certify=lambda node, key, now, life: certify_node(keys, node, key, now=now, lifetime=life),
        lifetime=lifetime,
    )
    try:
        yield Place(keys, await started.start(), folder)
    finally:
        await started.stop()
        await api.close()
