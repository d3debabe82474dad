"""Replicas of the reconciler on a real API server, with a repository and agents of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubernetes import client

from netpolicy.kube_api import KubeApi
from reconciler.in_cluster.run import ClusterOptions, Replica
from reconciler.push import PushConfig
from reconciler.webhook import WebhookConfig
from tests.support.beside import beside
from tests.support.kube_scene import apply, install_crds, make_namespace, repository
from tests.support.kube_server import KubeServer
from tests.support.reconciler_scene import Scene, a_free_port

GROUP, VERSION = "tidegate.dev", "v1alpha1"


@dataclass
class Member:
    """One replica: its state, its port, its connection."""

    api: KubeApi
    replica: Replica
    port: int
    task: asyncio.Task[None]


@dataclass
class Cluster:
    """A namespace of the server, a policy repository, and what is said of both."""

    server: KubeServer
    namespace: str
    scene: Scene
    members: dict[str, Member] = field(default_factory=dict)

    @classmethod
    def make(cls, server: KubeServer, namespace: str, root: Path) -> Cluster:
        """A namespace, and one node: a rollout waits for every node listed, dead ones too."""
        install_crds(server)
        make_namespace(server, namespace)
        cluster = cls(server=server, namespace=namespace, scene=Scene(root))
        cluster.core.delete_collection_node()
        cluster.core.create_node({"metadata": {"name": "node-a"}})
        return cluster

    @property
    def core(self) -> client.CoreV1Api:
        """The server's own kinds."""
        return client.CoreV1Api(self.server.api_client())

    @property
    def objects(self) -> client.CustomObjectsApi:
        """Our kinds."""
        return client.CustomObjectsApi(self.server.api_client())

    def follow(self, name: str = "policies", **spec: Any) -> None:
        """Have the scene's repository followed."""
        said = {"url": self.scene.url, "interval": "1s", **spec}
        apply(self.server, repository(self.namespace, name, **said))

    def status(self, name: str = "policies") -> dict[str, Any]:
        """What the repository says."""
        found = self.objects.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, "policyrepositories", name
        )
        status: dict[str, Any] = found.get("status", {})
        return status

    def reason(self, name: str = "policies") -> str:
        """Why the repository is Ready, or not."""
        conditions = {one["type"]: one for one in self.status(name).get("conditions", [])}
        return str(conditions.get("Ready", {}).get("reason", ""))

    def message(self, name: str = "policies") -> str:
        """What it says of that, in words."""
        conditions = {one["type"]: one for one in self.status(name).get("conditions", [])}
        return str(conditions.get("Ready", {}).get("message", ""))

    def rollouts(self) -> dict[str, dict[str, Any]]:
        """Revision → PolicyRollout."""
        found = self.objects.list_namespaced_custom_object(
            GROUP, VERSION, self.namespace, "policyrollouts"
        )
        return {one["spec"]["revision"]: one for one in found["items"]}

    def rollout_status(self, revision: str) -> dict[str, Any]:
        """What a revision's rollout says; nothing while it says nothing."""
        status: dict[str, Any] = self.rollouts().get(revision, {}).get("status", {})
        return status

    def phase(self, revision: str) -> str:
        """Where a revision is, as its object says."""
        return str(self.rollout_status(revision).get("phase", ""))

    def annotate(self, revision: str, **asked: str) -> None:
        """Ask for something by annotations of a rollout."""
        name = self.rollouts()[revision]["metadata"]["name"]
        marks = [f"tidegate.dev/{key.replace('_', '-')}={text}" for key, text in asked.items()]
        self.server.kubectl("annotate", "-n", self.namespace, "--overwrite", "pro", name, *marks)

    def events(self) -> list[tuple[str, str]]:
        """Type and reason of each Event of the namespace, by time."""
        found = client.EventsV1Api(self.server.api_client()).list_namespaced_event(self.namespace)
        ordered = sorted(found.items, key=lambda one: one.event_time)
        return [(one.type, one.reason) for one in ordered]

    @asynccontextmanager
    async def replica(
        self,
        identity: str = "replica-a",
        *,
        port: int = 0,
        state: Path | None = None,
        host: str = "127.0.0.1",
        webhook: WebhookConfig | None = None,
        bootstrap: str = "",
        kubeconfig: Path | None = None,
    ) -> AsyncIterator[Member]:
        """Run a replica until the end of the block; as the administrator, or as `kubeconfig` says."""
        port = port or a_free_port()
        config = replace(
            self.scene.config,
            state_dir=state or self.scene.root / f"state-{identity}",
            inventory=None,
            following=None,
            push=PushConfig.of_keys(self.scene.keys, listen=f"{host}:{port}"),
            webhook=webhook,
            bootstrap=bootstrap,
        )
        api = await KubeApi.connect(kubeconfig or self.server.kubeconfig)
        options = ClusterOptions(
            namespace=self.namespace, identity=identity, address=f"{host}:{port}"
        )
        replica = Replica(api, config, options)
        try:
            async with beside(replica.run()) as task:
                yield Member(api=api, replica=replica, port=port, task=task)
        finally:
            await api.close()
