"""The reconciler's whole way: a commit in, a verified bundle at the agent, the truth in its state."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from netpolicy.errors import Severity, StalledError
from netpolicy.status import ConditionType
from reconciler.app import standalone
from reconciler.notify import Kind
from reconciler.rollout.machine import Phase
from reconciler.sign import Signer, refresh_timestamp
from reconciler.state import judgements, publications
from reconciler.state.database import Database
from reconciler.state.rollouts import RolloutStore, rollout_of
from reconciler.webhook import WebhookConfig
from tests.support.git_host import SECRET, deliver
from tests.support.push_fleet import until
from tests.support.reconciler_scene import INVENTORY, Scene, a_free_port, deny, names_of
from tests.support.told import receiver

pytestmark = pytest.mark.slow

A, B = "policies/shop/a.yaml", "policies/shop/b.yaml"


def play(script: Callable[[Scene], Awaitable[None]], root: Path) -> None:
    asyncio.run(script(Scene(root)))  # type: ignore[arg-type]


def test_a_commit_reaches_the_agent_and_is_promoted_once_it_enforces_it(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        first = scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
            second = scene.repository.commit({B: deny("b")})
            await until(lambda: names_of(node) == ["a", "b"])
            assert [bundle.revision for bundle in node.bundles] == [first, second]
            database = Database.open_read_only(scene.state)

            def is_promoted() -> bool:
                rollout = rollout_of(database, second)
                return rollout is not None and rollout.phase is Phase.PROMOTED

            await until(is_promoted)
            assert (await scene.until_reason("Succeeded")).status
        async with scene.reconciling() as again:
            await until(lambda: again.judged == second)
            assert is_promoted()

    play(script, tmp_path)


def test_a_refused_commit_changes_nothing_and_the_next_one_mends_it(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
            bad = scene.repository.commit({A: deny("a").replace("ingressDeny", "ingresDeny")})
            condition = await scene.until_reason("ValidationFailed")
            assert bad in condition.message
            assert scene.condition(ConditionType.STALLED) is not None
            judgement = scene.judgement()
            assert judgement is not None
            assert [str(d.place) for d in judgement.diagnostics] == [f"{A}:6:3"]
            assert len(node.bundles) == 1
            scene.repository.commit({A: deny("mended")})
            await until(lambda: names_of(node) == ["mended"])
            await scene.until_reason("Succeeded")
            assert scene.condition(ConditionType.STALLED) is None

    play(script, tmp_path)


def test_a_commit_that_removes_every_policy_needs_the_authors_word(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a"), "tidegate.yaml": "allowEmpty: false\n"})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
            scene.repository.commit({}, delete=[A])
            await scene.until_reason("ValidationFailed")
            judgement = scene.judgement()
            assert judgement is not None
            assert [d.code for d in judgement.diagnostics] == ["TG401"]
            assert len(node.bundles) == 1
            scene.repository.commit({"tidegate.yaml": "allowEmpty: true\n"})
            await until(lambda: len(node.bundles) == 2)
            assert names_of(node) == []

    play(script, tmp_path)


def test_a_policy_may_not_name_a_namespace_that_its_folder_does_not_own(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        settings = "ownership: {policies/blog: [blog]}\n"
        scene.repository.commit({A: deny("a"), "tidegate.yaml": settings})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
            scene.repository.commit({"policies/blog/x.yaml": deny("thief")})
            await scene.until_reason("ValidationFailed")
            assert names_of(node) == ["a"]

    play(script, tmp_path)


def test_a_rewritten_history_waits_for_an_acknowledgement(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        root = scene.repository.commit({A: deny("a")})
        scene.repository.commit({B: deny("b")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a", "b"])
            scene.repository.force(root)
            forced = scene.repository.commit({A: deny("other")})
            condition = await scene.until_reason("HistoryDiverged")
            assert f"tidegate acknowledge {forced}" in condition.message
            assert len(node.bundles) == 1
            database = Database.open(scene.state)
            told = RolloutStore(database).history(1)[0]
            assert (told.revision, told.event, told.phase) == (forced, "HistoryDiverged", "Waiting")
            judgements.acknowledge(database, forced, by="test", now=0.0)
            database.close()
            await until(lambda: names_of(node) == ["other"])

    play(script, tmp_path)


def test_a_vanished_repository_changes_nothing_even_over_a_restart(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        commit = scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
        shutil.move(scene.repository.path, tmp_path / "elsewhere.git")
        async with scene.reconciling(), scene.agent("node-a") as node:
            await scene.until_reason("GitOperationFailed")
            # The last publication is announced all the same: the agent acknowledges it anew.
            await until(lambda: node.receiver.status().connected)
            await until(lambda: node.receiver.status().sequence > 0)
            database = Database.open_read_only(scene.state)
            last = publications.last_publication(database)
            assert last is not None
            assert last.revision == commit

    play(script, tmp_path)


def test_after_lost_state_publications_go_on_above_what_agents_hold(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
        held = node.bundles[-1].sequence
        shutil.rmtree(scene.state)
        await asyncio.sleep(1.1)  # sequences start from the clock's seconds
        scene.repository.commit({A: deny("after")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["after"])
        assert node.bundles[-1].sequence > held

    play(script, tmp_path)


def test_a_faulty_inventory_keeps_the_last_good_one(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: node.inventories)
            scene.inventory.write_text("nodes: [")
            scene.repository.commit({B: deny("b")})
            await until(lambda: names_of(node) == ["a", "b"])
            assert {entry.name for entry in node.inventories[-1]} == {"node-a", "web"}

    play(script, tmp_path)


def test_a_timestamp_that_aged_while_no_reconciler_ran_is_signed_anew_at_the_start(
    tmp_path: Path,
) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a")})
        async with scene.reconciling():
            await scene.until_reason("Succeeded")
        database = Database.open(scene.state)
        last = publications.last_publication(database)
        assert last is not None
        long_ago = datetime.now(UTC) - timedelta(days=3)
        old = refresh_timestamp(last, signer=Signer.load(scene.keys), now=long_ago)
        publications.save_metadata(database, old)
        database.close()
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])

    play(script, tmp_path)


def test_a_damaged_state_stops_the_reconciler_with_a_way_out(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.state.mkdir()
    (scene.state / "state.db").write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    with pytest.raises(StalledError, match="Move the file aside"):
        standalone(scene.config)


def test_kills_while_commits_arrive_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a-0")})
        async with scene.agent() as node:
            for number in range(1, 7):
                reconciler = scene.start_program()
                before = len(node.bundles)
                await until(lambda: node.receiver.status().connected, seconds=30)
                scene.repository.commit({A: deny(f"a-{number}")})
                if number % 2:
                    await until(lambda b=before: len(node.bundles) > b, seconds=30)
                else:
                    await asyncio.sleep(0.03 * number)  # somewhere inside a pass
                reconciler.send_signal(signal.SIGKILL)
                await asyncio.to_thread(reconciler.wait)
            async with scene.reconciling():
                await until(lambda: names_of(node) == ["a-6"], seconds=30)
            sequences = [bundle.sequence for bundle in node.bundles]
            assert sequences == sorted(set(sequences))

    play(script, tmp_path)


HTTP_RULE = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: http, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
    - toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET}]}
"""


def test_what_a_node_cannot_enforce_is_refused_and_names_the_node(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent() as node:
            await until(lambda: names_of(node) == ["a"])
            scene.repository.commit({B: HTTP_RULE})
            await scene.until_reason("ValidationFailed")
            judgement = scene.judgement()
            assert judgement is not None
            (found,) = [d for d in judgement.diagnostics if d.code == "TG402"]
            assert "node-a" in found.message
            assert names_of(node) == ["a"]

    play(script, tmp_path)


def test_a_refused_revision_is_judged_again_when_agents_can_enforce_it(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.repository.commit({B: HTTP_RULE})
        async with scene.reconciling():
            await scene.until_reason("ValidationFailed")
            async with scene.agent(capabilities=("http", "l4")) as node:
                await until(lambda: names_of(node) == ["http"])

    play(script, tmp_path)


READ_IN_TWO_WAYS = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress: [{toPorts: [{ports: [{port: "443", protocol: TCP}], terminatingTLS: {secret: {name: a}}}]}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: front, namespace: shop}
spec:
  endpointSelector: {matchLabels: {tier: front}}
  ingress: [{toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [shop.example]}]}]
"""


def test_a_pod_whose_tls_is_wanted_in_two_ways_holds_a_revision_until_its_labels_are_others(
    tmp_path: Path,
) -> None:
    async def script(scene: Scene) -> None:
        front = INVENTORY.replace("{app: web}", "{app: web, tier: front}")
        scene.inventory.write_text(front)
        able = ("l4", "http", "tls", "secrets", "server-names")
        async with scene.reconciling(), scene.agent(capabilities=able) as node:
            scene.repository.commit({A: deny("a")})
            await until(lambda: names_of(node) == ["a"])
            scene.repository.commit({B: READ_IN_TWO_WAYS})
            await scene.until_reason("ValidationFailed")
            judgement = scene.judgement()
            assert judgement is not None
            assert [d.code for d in judgement.diagnostics if d.severity is Severity.ERROR] == [
                "TG404"
            ]
            assert names_of(node) == ["a"]
            scene.inventory.write_text(INVENTORY)
            await until(lambda: names_of(node) == ["a", "front", "web"])

    play(script, tmp_path)


def test_a_scraper_reads_what_is_published_and_who_enforces_it(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.metrics_port = a_free_port()
        scene.repository.commit({A: deny("a")})
        async with scene.reconciling(), scene.agent():

            async def told() -> str:
                reader, writer = await asyncio.open_connection("127.0.0.1", scene.metrics_port)
                writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
                text = (await reader.read()).decode()
                writer.close()
                return text

            await scene.until_reason("Succeeded")
            async with asyncio.timeout(10):
                while 'tidegate_agents{state="enforcing"} 1.0' not in (text := await told()):
                    await asyncio.sleep(0.05)
            assert "tidegate_metadata_expiry_timestamp_seconds" in text

    play(script, tmp_path)


def test_a_git_host_that_tells_of_a_push_is_quicker_than_the_interval(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        secret, port = tmp_path / "hmac", a_free_port()
        secret.write_bytes(SECRET)
        scene.interval_seconds = 3600
        scene.webhook = WebhookConfig(listen=f"127.0.0.1:{port}", secret=secret)
        first = scene.repository.commit({A: deny("a")})
        async with scene.reconciling() as reconciler, scene.agent() as node:
            await until(lambda: reconciler.judged == first)
            scene.repository.commit({B: deny("b")})
            forged = await asyncio.to_thread(deliver, "127.0.0.1", port, secret=b"another")
            assert forged == 401
            assert await asyncio.to_thread(deliver, "127.0.0.1", port) == 202
            await until(lambda: names_of(node) == ["a", "b"])

    play(script, tmp_path)


def test_the_git_host_is_told_how_each_commit_fares(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        with receiver(tmp_path) as host:
            scene.notifications = (host.target(Kind.GITHUB),)

            def said(commit: str) -> str:
                about = [r.data["state"] for r in host.requests if r.path.endswith(commit)]
                return about[-1] if about else ""

            first = scene.repository.commit({A: deny("a")})
            async with scene.reconciling(), scene.agent():
                await until(lambda: said(first) == "success")
                bad = scene.repository.commit({B: deny("b").replace("ingressDeny", "x")})
                await until(lambda: said(bad) == "failure")
                assert "unknown field" in host.requests[-1].data["description"]

    play(script, tmp_path)
