"""Publications and inventory reach a receiver over real mTLS, and survive what befalls them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.evidence import NodeEvidence, Role
from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import parse_labels
from netpolicy.node_choice import NodeChoice
from netpolicy.wire.evidence import encode_evidence
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.client import connect
from tests.support.push_fleet import (
    FailingFiles,
    candidate_of,
    config_of,
    make_keys,
    publish,
    running,
    serving,
    unit_of,
    until,
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys", nodes=("node-a", "node-b"))


def test_a_publication_reaches_an_agent_is_kept_and_acknowledged(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            publication = publish(keys, 7, unit_of("shop", "deny", "allow"), unit_of("", "base"))
            server.publish(publication)
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(lambda: heard.acks)
                (bundle,) = node.bundles
                assert (bundle.sequence, bundle.digest) == (7, publication.digest)
                assert [unit.namespace for unit in bundle.units] == ["", "shop"]
                assert [policy.id.name for policy in bundle.policies] == ["base", "deny", "allow"]
                assert heard.last is not None
                assert heard.last.generation_digest == bundle.digest[::-1]
                assert node.receiver.status().connected
                assert node.store.load_last_good() == node.channels[-1]

    asyncio.run(scenario())


def test_the_latest_publication_wins_while_an_agent_is_busy(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            publications = [publish(keys, 1, unit_of("shop", "p1"))]
            for number in range(2, 7):
                publications.append(
                    publish(keys, number, unit_of("shop", f"p{number}"), previous=publications[-1])
                )
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                release = asyncio.Event()
                node.before_apply = release.wait
                server.publish(publications[0])
                await until(lambda: node.waiting)
                for publication in publications[1:]:
                    server.publish(publication)
                release.set()
                await until(lambda: heard.last and heard.last.sequence == 6)
                assert [bundle.sequence for bundle in node.bundles] == [1, 6]

    asyncio.run(scenario())


def test_a_bundle_that_cannot_be_applied_is_nacked_and_is_not_the_last_good(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            first = publish(keys, 1, unit_of("shop", "good"))
            server.publish(first)
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(lambda: len(heard.acks) == 1)
                node.fail_apply = "the map is full"
                second = publish(keys, 2, unit_of("shop", "bad"), previous=first)
                server.publish(second)
                await until(lambda: len(heard.acks) > 1)
                nack = heard.acks[1][1]
                assert (nack.reason, nack.sequence) == ("ApplyFailed", 1)
                assert nack.refused_sequence == 2
                assert "the map is full" in nack.error
                kept = node.store.load_last_good()
                assert kept is not None
                assert kept.sequence == 1
                server.publish(publish(keys, 3, unit_of("shop", "mended"), previous=second))
                node.fail_apply = ""
                await until(lambda: heard.last and heard.last.sequence == 3)

    asyncio.run(scenario())


def test_an_agent_comes_back_after_the_reconciler_restarts(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        first = publish(keys, 1, unit_of("shop", "one"))
        async with serving(keys) as (server, heard, port):
            server.publish(first)
            node_runs = running(config_of(keys, tmp_path / "a", port))
            node = await node_runs.__aenter__()
            await until(lambda: heard.acks)
        await until(lambda: not node.receiver.status().connected)
        async with serving(keys, listen=f"127.0.0.1:{port}") as (server, heard, _):
            server.publish(publish(keys, 2, unit_of("shop", "two"), previous=first))
            await until(lambda: heard.last and heard.last.sequence == 2)
            assert heard.connected[0][1].sequence == 1
            await node_runs.__aexit__(None, None, None)

    asyncio.run(scenario())


def test_a_restarted_agent_acknowledges_what_it_kept_without_fetching(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        config_at = tmp_path / "a"
        publication = publish(keys, 1, unit_of("shop", "one"))
        async with serving(keys) as (server, heard, port):
            server.publish(publication)
            async with running(config_of(keys, config_at, port)):
                await until(lambda: heard.acks)
            async with running(config_of(keys, config_at, port)) as node:
                await until(lambda: len(heard.acks) == 2)
                assert [bundle.sequence for bundle in node.bundles] == [1]
                assert heard.connected[1][1].version == publication.version

    asyncio.run(scenario())


def test_a_reconciler_that_lost_its_state_goes_on_above_what_agents_hold(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            server.publish(publish(keys, 5, unit_of("shop", "before")))
            async with running(config_of(keys, tmp_path / "a", port)):
                await until(lambda: heard.acks)
                anew = publish(keys, heard.acks[0][1].sequence + 1, unit_of("shop", "after"))
                server.publish(anew)
                await until(lambda: heard.last and heard.last.sequence == 6)

    asyncio.run(scenario())


def test_inventory_arrives_whole_then_by_difference(keys: Path, tmp_path: Path) -> None:
    def entry(number: int, app: str) -> AddressEntry:
        return AddressEntry(
            address=f"10.0.{number // 250}.{number % 250}",
            labels=parse_labels([f"app={app}"]),
            namespace="shop",
            name=f"pod-{number}",
            node="node-a",
        )

    async def scenario() -> None:
        async with serving(keys) as (server, _, port):
            everyone = tuple(entry(number, f"app-{number % 7}") for number in range(1300))
            server.move_inventory(Change(come=everyone))
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(lambda: node.inventories)
                assert set(node.inventories[0]) == set(everyone)
                changed = (*everyone[1:], entry(0, "new"), entry(2000, "app-1"))[:-1]
                server.move_inventory(Change(gone=everyone[:6], come=changed[5:]))
                await until(lambda: set(node.inventories[-1]) == set(changed[5:]))
                server.move_inventory(Change(gone=changed))
                await until(lambda: node.inventories[-1] == ())

    asyncio.run(scenario())


@pytest.mark.parametrize(("step", "applied"), [(1, [1]), (2, [1])])
def test_a_full_disk_is_nacked_and_the_bundle_taken_once_there_is_room(
    keys: Path, tmp_path: Path, step: int, applied: list[int]
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            server.publish(publish(keys, 1, unit_of("shop", "one")))
            files = FailingFiles(step, kill=False)
            config = config_of(keys, tmp_path / "a", port)
            async with running(config, files=files) as node:
                await until(lambda: heard.acks)
                assert heard.acks[0][1].reason == "StorageFailed"
                await until(lambda: heard.last and not heard.last.error)
                assert [bundle.sequence for bundle in node.bundles] == applied
                kept = node.store.load_last_good()
                assert kept is not None
                assert kept.sequence == 1

    asyncio.run(scenario())


def test_a_publication_without_any_policy_is_one_too(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            first = publish(keys, 1, unit_of("shop", "one"))
            server.publish(first)
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(lambda: len(heard.acks) == 1)
                server.publish(publish(keys, 2, previous=first))
                await until(lambda: len(heard.acks) == 2)
                assert not heard.acks[1][1].error
                assert node.bundles[-1].units == ()

    asyncio.run(scenario())


def test_a_damaged_store_is_an_alarm_until_a_bundle_replaces_it(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "a"
        async with serving(keys) as (server, heard, port):
            (state / "bundle").mkdir(parents=True)
            (state / "bundle" / "last-good").write_bytes(b"TGBUNDL1 nonsense")
            async with running(config_of(keys, state, port)) as node:
                (alarm,) = node.receiver.status().alarms
                assert "damaged" in alarm
                server.publish(publish(keys, 1, unit_of("shop", "one")))
                await until(lambda: heard.acks)
                assert node.receiver.status().alarms == ()

    asyncio.run(scenario())


def test_metadata_that_expires_is_an_alarm_and_the_policy_stays(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        now = [time.time()]
        async with serving(keys) as (server, heard, port):
            server.publish(publish(keys, 1, unit_of("shop", "one")))
            config = config_of(keys, tmp_path / "a", port)
            async with running(config, clock=lambda: now[0]) as node:
                await until(lambda: heard.acks)
                assert node.receiver.status().alarms == ()
                now[0] += 2 * 86_400
                (alarm,) = node.receiver.status().alarms
                assert "expired" in alarm
                assert node.receiver.status().sequence == 1
                assert node.store.load_last_good() is not None

    asyncio.run(scenario())


def test_every_answer_is_confirmed_and_evidence_is_known_by_the_certificates_name(
    keys: Path, tmp_path: Path
) -> None:
    report = NodeEvidence(
        node="somebody-else",
        candidate_digest="a" * 64,
        generation_digest="b" * 64,
        role=Role.SHADOW,
        flows=3,
    )

    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            server.publish(publish(keys, 1, unit_of("shop", "one")))
            async with connect(config_of(keys, tmp_path / "a", port)) as stub:
                call = stub.Announce()
                await call.write(push_pb2.AgentMessage(hello=push_pb2.Hello(instance="i")))
                nonce = (await call.read()).announcement.nonce
                await call.write(push_pb2.AgentMessage(evidence=encode_evidence(report)))
                for number in (1, 2):
                    ack = push_pb2.Ack(nonce=nonce, sequence=1, role="shadow", answer=number)
                    await call.write(push_pb2.AgentMessage(ack=ack))
                    confirmation = (await call.read()).confirmation
                    assert (confirmation.nonce, confirmation.answer) == (nonce, number)
                assert heard.reports == [("node-a", replace(report, node="node-a"))]
                assert [ack.role for _, ack in heard.acks] == [Role.SHADOW] * 2

    asyncio.run(scenario())


def test_a_candidate_arrives_with_the_nodes_it_is_for_and_is_reported_on(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            stable = (unit_of("shop", "deny"), unit_of("blog", "open"))
            choice = NodeChoice(labels=(("canary", "yes"),), percent=12.5, salt="s")
            candidate = candidate_of(unit_of("shop", "changed"), stable[1], nodes=choice)
            publication = publish(keys, 1, *stable, candidate=candidate, confirm_seconds=7)
            server.publish(publication)
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(lambda: heard.acks)
                (channels,) = node.channels
                assert channels.terms == publication.terms
                assert channels.candidate is not None
                assert [p.id.name for p in channels.candidate.policies] == ["open", "changed"]
                await until(lambda: node.store.load_last_good() == channels)  # once it is confirmed
                node.seen = NodeEvidence(
                    node="node-a",
                    candidate_digest=channels.candidate.digest,
                    generation_digest="b" * 64,
                    role=Role.SHADOW,
                    flows=3,
                )
                await until(lambda: heard.reports)
                assert heard.reports[0] == ("node-a", node.seen)
                node.seen, node.role = replace(node.seen, role=Role.ENFORCING), Role.ENFORCING
                server.publish(publish(keys, 2, *stable, previous=publication, candidate=candidate))
                await until(lambda: len(heard.acks) == 2)
                assert heard.reports[-1][1].role is Role.ENFORCING  # told before the answer
                assert heard.acks[1][1].role is Role.ENFORCING

    asyncio.run(scenario())


def test_a_candidate_whose_units_are_not_those_that_were_signed_is_refused(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            stable = unit_of("shop", "deny")
            changed = unit_of("shop", "changed")
            publication = publish(keys, 1, stable, candidate=candidate_of(changed))
            units = {**publication.units, changed.digest: unit_of("shop", "evil").data}
            server.publish(replace(publication, units=units))
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(lambda: heard.acks)
                assert heard.acks[0][1].reason in {"Tampered", "TooLarge"}
                assert node.channels == []

    asyncio.run(scenario())
