"""Two replicas: one leads, the other passes agents on, takes over, and undoes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from netpolicy.errors import TransientError
from netpolicy.kube_api import KubeApi
from reconciler.cluster import lease
from reconciler.cluster.lease_keeper import LeaseKeeper
from reconciler.in_cluster.shown import seconds_of
from tests.cluster.test_reconciler import A, B, until
from tests.support.kube_replicas import Cluster
from tests.support.kube_scene import make_namespace
from tests.support.kube_server import KubeServer, as_json
from tests.support.push_fleet import until as until_true
from tests.support.reconciler_scene import a_free_port, deny, names_of

pytestmark = pytest.mark.cluster


def leases(server: KubeServer, namespace: str) -> dict[str, Any]:
    found: Any = as_json(
        server.kubectl("get", "lease", "-n", namespace, "tidegate-reconciler", "-o", "json")
    )
    spec: dict[str, Any] = found["spec"]
    return spec


def test_of_two_keepers_one_leads_and_the_other_follows_when_it_goes(server: KubeServer) -> None:
    namespace = make_namespace(server, "keepers")

    async def script() -> None:
        api = await KubeApi.connect(server.kubeconfig)
        keepers = {
            name: LeaseKeeper(api, namespace, name, address=f"{name}:1", used=lambda: 7000)
            for name in "ab"
        }
        tasks = {name: asyncio.create_task(keeper.run()) for name, keeper in keepers.items()}

        def leading() -> list[str]:
            return [name for name, keeper in keepers.items() if keeper.term is not None]

        await until_true(lambda: len(leading()) == 1)
        (first,) = leading()
        other = "b" if first == "a" else "a"
        await until_true(lambda: keepers[other].leader_address == f"{first}:1")
        before = keepers[first].term
        tasks[first].cancel()  # as on SIGTERM: it gives the Lease up
        await until_true(lambda: leading() == [other])
        after = keepers[other].term
        assert before is not None
        assert after is not None
        assert after.token == before.token + 1
        assert after.first > before.last >= 7000
        assert leases(server, namespace)["holderIdentity"] == other
        tasks[other].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await api.close()

    asyncio.run(script())


def test_a_replica_that_does_not_hold_the_lease_may_not_publish(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "fenced", tmp_path)
        cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.replica("replica-a") as leader, cluster.replica("replica-b") as second:
            await until_true(
                lambda: sum(_may_publish(each.replica) for each in (leader, second)) == 1
            )
            for _ in range(10):
                assert sum(_may_publish(each.replica) for each in (leader, second)) == 1
                await asyncio.sleep(0.05)

    asyncio.run(script())


def _may_publish(replica: Any) -> bool:
    try:
        replica.least_sequence()
    except TransientError:
        return False
    return True


def test_a_successor_without_state_brings_back_what_is_enforced_and_goes_on(
    server: KubeServer, tmp_path: Path
) -> None:
    """What was taken back stays back, and what comes is not taken for the first revision ever."""

    async def script() -> None:
        cluster = Cluster.make(server, "successor", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow(rollout={"shadow": {"soak": "1h"}})
        async with cluster.scene.agent() as node:
            async with cluster.replica("replica-a", port=cluster.scene.port):
                await until(lambda: cluster.phase(first) == "Promoted")
                bad = cluster.scene.repository.commit({B: deny("bad")})
                await until(lambda: cluster.phase(bad) == "Shadow")
                cluster.annotate(bad, abort="1", requested_by="ann")
                await until(lambda: cluster.phase(bad) == "Aborted")
                await until(lambda: "abort" in cluster.rollout_status(bad).get("lastHandled", {}))
                told = cluster.rollout_status(bad)
                before = node.bundles[-1].sequence
            async with cluster.replica("replica-b", port=cluster.scene.port):
                await until_true(lambda: node.bundles[-1].sequence > before)
                await until(lambda: cluster.status().get("lastAttemptedRevision") == bad)
                second = cluster.scene.repository.commit({B: deny("b")})
                await until(lambda: cluster.phase(second) == "Shadow")
                assert names_of(node) == ["a"]
                assert {bundle.revision for bundle in node.bundles} == {first}
                assert cluster.rollout_status(bad) == told
                events = [one["event"] for one in cluster.rollout_status(first)["history"]]
                assert events.count("Begun") == 2, "the history of both leaders"

    asyncio.run(script())


def test_a_successor_goes_on_with_a_rollout_where_it_stood(
    server: KubeServer, tmp_path: Path
) -> None:
    """No node goes back to what is stable meanwhile, and no soak begins anew."""

    async def script() -> None:
        cluster = Cluster.make(server, "goeson", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        waves = {"percent": [50, 100], "soak": "1h"}
        cluster.follow(rollout={"shadow": {"soak": "1h"}, "waves": waves})
        async with cluster.scene.agent() as node:
            async with cluster.replica("replica-a", port=cluster.scene.port):
                await until(lambda: cluster.phase(first) == "Promoted")
                second = cluster.scene.repository.commit({B: deny("b")})
                await until(lambda: cluster.phase(second) == "Shadow")
                cluster.annotate(second, promote="1")
                await until(lambda: cluster.rollout_status(second).get("where") == "Wave 50%")
                await until(lambda: "promote" in cluster.rollout_status(second)["lastHandled"])
                await until(lambda: cluster.rollout_status(second).get("sequence"))
                told, before = cluster.rollout_status(second), node.channels[-1].terms
            async with cluster.replica("replica-b", port=cluster.scene.port):
                await until_true(lambda: node.channels[-1].sequence > before.sequence)
                await until(lambda: cluster.rollout_status(second)["sequence"] > before.sequence)
                assert node.channels[-1].terms.candidate == before.candidate
                after = cluster.rollout_status(second)
                assert (after["phase"], after["stage"]) == ("Wave", 1)
                assert 0 <= seconds_of(after["since"]) - seconds_of(told["since"]) <= 1
                assert after["history"][0]["event"] == "CarriedOn"
                cluster.annotate(second, promote="2")  # what is on its way can be acted on
                await until(lambda: cluster.rollout_status(second).get("where") == "Wave 100%")

    asyncio.run(script())


def test_agents_of_a_replica_that_does_not_lead_are_served_by_the_one_that_does(
    server: KubeServer, tmp_path: Path
) -> None:
    async def script() -> None:
        cluster = Cluster.make(server, "forwarded", tmp_path)
        revision = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        async with cluster.replica("replica-a", port=a_free_port()) as leader:
            await until_true(lambda: leader.replica._keeper.term is not None)
            async with (
                cluster.replica("replica-b", port=cluster.scene.port) as second,
                cluster.scene.agent() as node,
            ):
                await until_true(lambda: names_of(node) == ["a"])
                assert second.replica._keeper.term is None
                await until(lambda: cluster.phase(revision) == "Promoted")

    asyncio.run(script())


def test_a_deposed_leader_stops_and_its_state_is_not_trusted_afterwards(
    server: KubeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "DURATION_SECONDS", 1)

    async def script() -> None:
        cluster = Cluster.make(server, "deposed", tmp_path)
        first = cluster.scene.repository.commit({A: deny("a")})
        cluster.follow()
        state = tmp_path / "state-replica-a"
        async with cluster.scene.agent() as node:
            async with cluster.replica("replica-a", port=cluster.scene.port, state=state):
                await until(lambda: cluster.phase(first) == "Promoted")
            async with cluster.replica("replica-b", port=cluster.scene.port):
                second = cluster.scene.repository.commit({B: deny("b")})
                await until(lambda: cluster.phase(second) == "Promoted")
                await until(lambda: cluster.status().get("lastAppliedRevision") == second)
            before = node.bundles[-1].sequence
            async with cluster.replica("replica-a", port=cluster.scene.port, state=state):
                await until_true(lambda: node.bundles[-1].sequence > before)
                assert names_of(node) == ["a", "b"]
                assert [bundle.revision for bundle in node.bundles[-2:]] == [second, second]

    asyncio.run(script())
