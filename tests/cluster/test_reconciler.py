"""The reconciler in a cluster: objects in, policies at the agents, statuses and Events out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netpolicy.kube_api import KubeApi
from netpolicy.node_encryption import EncryptionMode, NodeEncryption
from reconciler.webhook import WebhookConfig
from tests.support.git_host import SECRET, deliver
from tests.support.kube_replicas import Cluster
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import PATIENCE_SECONDS
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import a_free_port, deny, names_of
from tests.support.signed_commits import Signers

pytestmark = pytest.mark.cluster

A, B = "policies/shop/a.yaml", "policies/shop/b.yaml"


async def until(holds: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for what the server shows; asking it must not hold up what is asked about."""
    seen: list[bool] = []

    async def ask() -> None:
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.1)
        seen.append(True)

    task = asyncio.create_task(ask())
    try:
        await until_true(lambda: bool(seen) or task.done(), seconds=seconds)
        await task
    finally:
        task.cancel()


def test_a_repository_object_brings_policies_to_the_agents_and_says_how_things_stand(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "whole", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent() as node:
            await until_true(lambda: names_of(node) == ["a"])
            await until(lambda: cluster.reason() == "Succeeded")
            await until(lambda: cluster.phase(first) == "Promoted")
            node.encryption = NodeEncryption(
                node="node-a", mode=EncryptionMode.ON, peers=1, silent_peers=("node-b",)
            )
            second = cluster.scene.repository.commit({B: deny("b")})
            await until_true(lambda: names_of(node) == ["a", "b"])
            await until(lambda: cluster.phase(second) == "Promoted")
            await until(lambda: cluster.status().get("lastAppliedRevision") == second)
            status = cluster.status()
            assert (status["policies"], status["observedGeneration"]) == (2, 1)
            bad = cluster.scene.repository.commit(
                {A: deny("a").replace("ingressDeny", "ingresDeny")}
            )
            await until(lambda: cluster.reason() == "ValidationFailed")
            await until(lambda: ("Warning", "PeersSilent") in cluster.events())
            status = cluster.status()
            assert (status["lastAttemptedRevision"], status["lastAppliedRevision"]) == (bad, second)
            assert status["errors"] == 1
            assert status["diagnostics"][0].startswith(f"{A}:6:3: error")
            assert list(cluster.rollouts()) == [first, second] or set(cluster.rollouts()) == {
                first,
                second,
            }
        assert ("Normal", "Begun") in cluster.events()
        assert cluster.events().count(("Normal", "FleetAcked")) == 2
        assert cluster.events().count(("Warning", "PeersSilent")) == 1
        assert names_of(node) == ["a", "b"]

    asyncio.run(script())


def test_nothing_is_written_while_nothing_changes(server: KubeServer, tmp_path: Path) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "quiet", tmp_path)
        revision = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.replica(port=cluster.scene.port) as member, cluster.scene.agent():
            await until(lambda: cluster.phase(revision) == "Promoted")
            await until(lambda: cluster.reason() == "Succeeded")
            await until(lambda: cluster.status().get("nodes", "").startswith("1/"))
            versions = _versions(cluster)
            sent = _count_writes(member.api)
            await asyncio.sleep(3.5)  # three passes over Git, and more looks at the rollout
            assert sent == []
            assert _versions(cluster) == versions

    asyncio.run(script())


def _versions(cluster: Cluster) -> set[str]:
    repository = cluster.objects.list_namespaced_custom_object(
        "tidegate.dev", "v1alpha1", cluster.namespace, "policyrepositories"
    )
    found = [*repository["items"], *cluster.rollouts().values()]
    return {one["metadata"]["resourceVersion"] for one in found}


def _count_writes(api: KubeApi) -> list[str]:
    """What is sent from now on that changes something, the Lease left out."""
    sent: list[str] = []
    request = api._request

    async def counted(method: str, path: str, *args: Any, **named: Any) -> bytes:
        if method != "GET" and "/leases" not in path:
            sent.append(f"{method} {path}")
        return await request(method, path, *args, **named)

    api._request = counted  # type: ignore[method-assign]
    return sent


def test_people_act_by_annotations_and_are_answered_by_token(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "acting", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(rollout={"shadow": {"soak": "1h"}})
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent() as node:
            await until(lambda: cluster.phase(first) == "Promoted")  # nothing to compare it with
            second = cluster.scene.repository.commit({B: deny("b")})
            await until(lambda: cluster.phase(second) == "Shadow")
            assert names_of(node) == ["a"]
            cluster.annotate(second, pause="1", requested_by="ann", reason="lunch")
            await until(lambda: cluster.phase(second) == "Paused")
            await until(
                lambda: cluster.rollout_status(second).get("lastHandled", {}).get("pause") == "1"
            )
            cluster.annotate(second, pause="2")
            await until(lambda: "refused" in cluster.rollout_status(second)["answers"]["pause"])
            cluster.annotate(second, promote="1")
            await until_true(lambda: names_of(node) == ["a", "b"])
            await until(lambda: cluster.phase(second) == "Promoted")
            cluster.annotate(second, rollback=f"{second}/now", requested_by="ann")
            await until_true(lambda: names_of(node) == ["a"])
            await until(lambda: cluster.phase(second) == "Quarantined")
            await until(lambda: cluster.reason() == "RolledBack")
            history = cluster.rollout_status(second)["history"]
            assert next(one["event"] for one in history if one.get("by") == "ann") == "Undo"
            assert cluster.rollout_status(second)["lastHandled"] == {
                "pause": "2",
                "promote": "1",
                "rollback": f"{second}/now",
            }
        assert ("Warning", "Undo") in cluster.events()

    asyncio.run(script())


def test_a_repository_that_cannot_be_meant_so_says_why_and_a_second_one_is_not_followed(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "refusing", tmp_path)
        cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(secretRef={"name": "missing"})
        async with cluster.replica():
            await until(lambda: cluster.reason() == "InvalidSpec")
            assert "no secret missing" in cluster.status()["conditions"][0]["message"]
            cluster.follow("second")
            await until(lambda: cluster.reason("second") == "AnotherIsFollowed")
            cluster.follow(secretRef=None, rollout={"waves": {"percent": [50, 10]}})
            await until(lambda: "percent" in cluster.status()["conditions"][0]["message"])
            cluster.follow(rollout=None)
            await until(lambda: cluster.reason() in ("Succeeded", "Progressing"))

    asyncio.run(script())


def test_where_commits_must_be_signed_another_one_changes_nothing(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "signed", tmp_path)
        signers, policies = Signers(tmp_path / "signers"), cluster.scene.repository
        signers.join("ann")
        policies.commit({A: deny("a")})
        signers.sign_tip("ann", policies)
        cluster.follow()
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent() as node:
            await until_true(lambda: names_of(node) == ["a"])
            await until(lambda: cluster.reason() == "Succeeded")
            cluster.follow(verification={"secretRef": {"name": "signers"}})
            await until(lambda: "no secret signers" in cluster.message())
            unsigned = policies.commit({B: deny("b")})
            data = {"allowed_signers": signers.allowed.read_text()}
            secret = {"metadata": {"name": "signers"}, "stringData": data}
            cluster.core.create_namespaced_secret("signed", secret)
            cluster.follow(verification={"secretRef": {"name": "signers"}, "covers": "head"})
            await until(lambda: cluster.reason() == "VerificationFailed")
            assert f"{unsigned[:12]} is not signed by a known signer" in cluster.message()
            assert names_of(node) == ["a"]
            assert unsigned not in cluster.rollouts()
            policies.commit({"policies/shop/c.yaml": deny("c")})
            signers.sign_tip("ann", policies)
            await until_true(lambda: names_of(node) == ["a", "b", "c"])
            await until(lambda: cluster.reason() == "Succeeded")

    asyncio.run(script())


def test_a_suspended_repository_is_not_fetched_and_a_request_fetches_at_once(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "suspended", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(interval="1h")
        async with cluster.replica(port=cluster.scene.port), cluster.scene.agent() as node:
            await until(lambda: cluster.phase(first) == "Promoted")
            cluster.scene.repository.commit({B: deny("b")})
            mark = ("annotate", "-n", cluster.namespace, "--overwrite", "prepo", "policies")
            server.kubectl(*mark, "tidegate.dev/requested-at=one")
            await until_true(lambda: names_of(node) == ["a", "b"])
            await until(lambda: cluster.status().get("lastHandledReconcileAt") == "one")
            cluster.follow(interval="1s", suspend=True)
            await until(lambda: cluster.status().get("observedGeneration") == 2)
            cluster.scene.repository.commit({A: deny("later")})
            server.kubectl(*mark, "tidegate.dev/requested-at=two")
            await until(lambda: cluster.status().get("lastHandledReconcileAt") == "two")
            await asyncio.sleep(1.5)  # more than an interval
            assert names_of(node) == ["a", "b"]
            cluster.follow(interval="1s", suspend=False)
            await until_true(lambda: names_of(node) == ["b", "later"])

    asyncio.run(script())


def test_a_replica_that_does_not_lead_passes_on_what_a_git_host_tells(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "told", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(interval="1h")
        secret, port = tmp_path / "hmac", a_free_port()
        secret.write_bytes(SECRET)

        def hook(host: str) -> WebhookConfig:
            return WebhookConfig(listen=f"{host}:{port}", secret=secret)

        leading = cluster.replica(port=cluster.scene.port, webhook=hook("127.0.0.1"))
        async with leading, cluster.scene.agent() as node:
            await until(lambda: cluster.phase(first) == "Promoted")
            async with cluster.replica("b", host="127.0.0.2", webhook=hook("127.0.0.2")) as other:
                await until_true(lambda: bool(other.replica._keeper.leader_address))
                cluster.scene.repository.commit({B: deny("b")})
                await until(lambda: deliver("127.0.0.2", port) == 202)
                await until_true(lambda: names_of(node) == ["a", "b"])

    asyncio.run(script())
