"""Copies of the promoted policies on a real API server: written, put back, deleted, and nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from reconciler.mirror import plan
from tests.cluster.test_reconciler import A, B, _count_writes, until
from tests.support.kube_replicas import GROUP, VERSION, Cluster
from tests.support.kube_scene import make_namespace
from tests.support.kube_server import KubeServer
from tests.support.reconciler_scene import deny

pytestmark = pytest.mark.cluster


def copies(cluster: Cluster, namespace: str = "shop") -> dict[str, dict[str, Any]]:
    """The copies that this installation made in a namespace, by name."""
    found = cluster.objects.list_namespaced_custom_object(
        GROUP,
        VERSION,
        namespace,
        "mirroredpolicies",
        label_selector=f"tidegate.dev/mirrored-by={cluster.namespace}",
    )
    return {one["metadata"]["name"]: one["spec"] for one in found["items"]}


def mirrored(cluster: Cluster) -> dict[str, Any]:
    """What the repository says of them."""
    said: dict[str, Any] = cluster.status().get("mirror", {})
    return said


def test_promoted_policies_have_copies_that_nobody_else_changes(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "mirror", tmp_path)
        make_namespace(server, "shop")
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(syncToCluster=True)
        async with cluster.replica(port=cluster.scene.port) as member, cluster.scene.agent():
            await until(lambda: set(copies(cluster)) == {"cnp.a"})
            await until(lambda: mirrored(cluster).get("revision") == first)
            second = cluster.scene.repository.commit({B: deny("b")})
            await until(lambda: set(copies(cluster)) == {"cnp.a", "cnp.b"})
            await until(lambda: mirrored(cluster).get("revision") == second)
            original = copies(cluster)["cnp.a"]
            assert original["path"] == A
            assert original["manifest"]["metadata"]["name"] == "a"

            change = '{"spec": {"mode": "dry-run", "manifest": {"more": 1}}}'
            of_a = ("-n", "shop", "mirroredpolicy", "cnp.a")
            server.kubectl("patch", *of_a, "--type=merge", "-p", change)
            server.kubectl("delete", "-n", "shop", "mpol", "cnp.b")
            await until(lambda: copies(cluster).get("cnp.a") == original)
            await until(lambda: "cnp.b" in copies(cluster))

            cluster.scene.repository.commit({}, delete=[A])
            await until(lambda: set(copies(cluster)) == {"cnp.b"})
            await until(lambda: mirrored(cluster).get("copies") == 1)
            sent = _count_writes(member.api)
            await asyncio.sleep(2.0)  # some passes over Git
            assert [each for each in sent if "mirrored" in each] == []

            cluster.follow(syncToCluster=False)
            await until(lambda: not copies(cluster))
            await until(lambda: not mirrored(cluster))

    asyncio.run(script())


def test_copies_that_cannot_be_written_are_told_and_many_deletions_wait_for_a_word(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FREE_DELETIONS", 0)

    async def script() -> None:
        cluster = Cluster.make(server, "mirror-held", tmp_path)
        make_namespace(server, "shop")
        lost = deny("lost").replace("shop", "no-such-namespace")
        cluster.scene.repository.commit({A: deny("a"), B: deny("b"), "policies/lost.yaml": lost})
        cluster.follow(syncToCluster=True)
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent():
            await until(lambda: mirrored(cluster).get("missing") == 1)
            assert "no-such-namespace/cnp.lost" in mirrored(cluster)["message"]
            assert set(copies(cluster)) == {"cnp.a", "cnp.b"}
            second = cluster.scene.repository.commit({}, delete=[A])
            await until(lambda: mirrored(cluster).get("held") == 1)
            assert set(copies(cluster)) == {"cnp.a", "cnp.b"}
            allowed = f"tidegate.dev/allow-deletions={second}"
            of_repository = ("-n", cluster.namespace, "prepo", "policies")
            server.kubectl("annotate", *of_repository, allowed)
            await until(lambda: set(copies(cluster)) == {"cnp.b"})

    asyncio.run(script())
