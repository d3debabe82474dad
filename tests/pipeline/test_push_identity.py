"""Who may connect, and under which name."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import parse_labels
from netpolicy.wire.tidegate.v1 import push_pb2, push_pb2_grpc
from nodeagent.receive import ReceiveConfig
from nodeagent.receive.client import connect
from reconciler.push.config import ANSWER_PAUSE_SECONDS, MAX_FEEDS_PER_NODE
from reconciler.sign.certificates import add_node, renew_node, renew_server
from reconciler.sign.keys import trusted_root
from tests.support.push_fleet import (
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


async def is_turned_away(keys: Path, config: ReceiveConfig) -> str:
    """The error with which an agent stays outside."""
    async with serving(keys) as (server, heard, port):
        server.publish(publish(keys, 1, unit_of("shop", "secret")))
        async with running(replace(config, address=f"127.0.0.1:{port}")) as node:
            await until(lambda: node.receiver.status().last_error)
            assert not heard.connected
            assert not node.bundles
            return node.receiver.status().last_error


def test_the_name_comes_from_the_certificate_and_not_from_the_message(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (_, heard, port):
            config = replace(config_of(keys, tmp_path / "b", port, node="node-b"), node="node-a")
            async with running(config) as node:
                await until(lambda: heard.connected)
                assert heard.connected[0][0] == "node-b"
                await until(lambda: node.receiver.status().connected)
            await until(lambda: heard.gone == ["node-b"])

    asyncio.run(scenario())


def test_a_certificate_of_another_authority_is_turned_away(keys: Path, tmp_path: Path) -> None:
    other = make_keys(tmp_path / "other") / "nodes" / "node-a"
    config = config_of(keys, tmp_path / "a", 0)
    stranger = replace(config, certificate=other / "node.pem", key=other / "node.key")
    assert asyncio.run(is_turned_away(keys, stranger))


def test_an_expired_certificate_is_turned_away(keys: Path, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    lifetime = timedelta(days=1)
    add_node(keys, "node-x", root=trusted_root(keys), now=long_ago, lifetime=lifetime)
    config = config_of(keys, tmp_path / "x", 0, node="node-x")
    error = asyncio.run(is_turned_away(keys, config))
    assert "our certificate expired" in error
    assert "tidegate keys renew KEYS --node node-x" in error
    in_a_cluster = asyncio.run(is_turned_away(keys, replace(config, is_bootstrapped=True)))
    assert "this pod's token" in in_a_cluster
    assert "keys renew" not in in_a_cluster


def test_a_stream_ends_with_the_certificate_it_was_opened_with(keys: Path, tmp_path: Path) -> None:
    """The agent comes back with the one that is there by then."""
    lifetime = timedelta(seconds=2)
    add_node(keys, "node-x", root=trusted_root(keys), now=datetime.now(UTC), lifetime=lifetime)

    async def scenario() -> None:
        async with serving(keys) as (_, heard, port):
            config = config_of(keys, tmp_path / "x", port, node="node-x")
            async with running(config) as node:
                await until(lambda: heard.connected)
                renew_node(keys, "node-x", now=datetime.now(UTC))
                await until(lambda: heard.gone == ["node-x"])
                await until(lambda: len(heard.connected) == 2)
                await until(lambda: node.receiver.status().connected)

    asyncio.run(scenario())


def test_no_call_counts_on_a_connection_whose_certificate_ended(keys: Path, tmp_path: Path) -> None:
    lifetime = timedelta(seconds=2)
    add_node(keys, "node-x", root=trusted_root(keys), now=datetime.now(UTC), lifetime=lifetime)

    async def scenario() -> None:
        async with serving(keys) as (_, _heard, port):
            config = config_of(keys, tmp_path / "x", port, node="node-x")
            async with connect(config) as stub:
                inventory = stub.Inventory()
                await inventory.write(push_pb2.InventoryAck(version=0))
                assert await asyncio.wait_for(inventory.read(), 10) is grpc.aio.EOF
                with pytest.raises(grpc.aio.AioRpcError, match="has expired"):
                    await stub.FetchMetadata(
                        push_pb2.FetchMetadataRequest(names=["timestamp.json"])
                    )

    asyncio.run(scenario())


def test_an_expired_certificate_is_refused_by_the_server_too(keys: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    own = add_node(
        keys, "node-x", root=trusted_root(keys), now=long_ago, lifetime=timedelta(days=1)
    )

    async def scenario() -> None:
        async with serving(keys) as (_, _, port):
            credentials = grpc.ssl_channel_credentials(
                (own / "ca.pem").read_bytes(),
                (own / "node.key").read_bytes(),
                (own / "node.pem").read_bytes(),
            )
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await push_pb2_grpc.PushStub(channel).FetchMetadata(
                        push_pb2.FetchMetadataRequest(names=["timestamp.json"]), timeout=5
                    )

    asyncio.run(scenario())


def test_a_renewed_certificate_lets_the_same_node_in(keys: Path, tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    add_node(keys, "node-x", root=trusted_root(keys), now=long_ago, lifetime=timedelta(days=1))

    async def scenario() -> None:
        async with serving(keys) as (_, heard, port):
            config = config_of(keys, tmp_path / "x", port, node="node-x")
            async with running(config) as node:
                await until(lambda: "expired" in node.receiver.status().last_error)
                renew_node(keys, "node-x", now=datetime.now(UTC))
                await until(lambda: heard.connected)
                assert heard.connected[0][0] == "node-x"
                await until(lambda: not node.receiver.status().last_error)

    asyncio.run(scenario())


def test_a_renewed_server_keeps_its_names(keys: Path, tmp_path: Path) -> None:
    renew_server(keys, now=datetime.now(UTC))

    async def scenario() -> None:
        async with (
            serving(keys) as (_, heard, port),
            running(config_of(keys, tmp_path / "a", port)),
        ):
            await until(lambda: heard.connected)

    asyncio.run(scenario())


def test_a_server_whose_certificate_expired_says_so_at_its_start(keys: Path) -> None:
    renew_server(keys, now=datetime.now(UTC) - timedelta(days=800))

    async def scenario() -> None:
        with pytest.raises(StalledError, match=r"expired at .* keys renew DIR --server"):
            async with serving(keys):
                pass

    asyncio.run(scenario())


def test_a_server_of_another_authority_is_not_believed(keys: Path, tmp_path: Path) -> None:
    impostor = make_keys(tmp_path / "other")
    config = config_of(keys, tmp_path / "a", 0)
    assert asyncio.run(is_turned_away(impostor, config))


def test_a_nodes_certificate_does_not_pass_for_the_servers(keys: Path, tmp_path: Path) -> None:
    rogue = tmp_path / "rogue"
    shutil.copytree(keys, rogue)
    shutil.copy(keys / "nodes" / "node-b" / "node.pem", rogue / "tls" / "server.pem")
    shutil.copy(keys / "nodes" / "node-b" / "node.key", rogue / "tls" / "server.key")
    assert asyncio.run(is_turned_away(rogue, config_of(keys, tmp_path / "a", 0)))


def test_without_a_certificate_nothing_is_served(keys: Path) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, _, port):
            server.publish(publish(keys, 1, unit_of("shop", "secret")))
            authority = (keys / "tls" / "ca.pem").read_bytes()
            credentials = grpc.ssl_channel_credentials(root_certificates=authority)
            async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
                stub = push_pb2_grpc.PushStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.FetchMetadata(
                        push_pb2.FetchMetadataRequest(names=["timestamp.json"]), timeout=5
                    )
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(scenario())


def test_the_servers_own_certificate_names_no_node(keys: Path, tmp_path: Path) -> None:
    config = config_of(keys, tmp_path / "a", 0)
    tls = keys / "tls"
    borrowed = replace(config, certificate=tls / "server.pem", key=tls / "server.key")
    assert asyncio.run(is_turned_away(keys, borrowed))


def test_a_second_instance_under_a_name_in_use_is_refused_and_reported(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (_, heard, port):
            async with running(config_of(keys, tmp_path / "first", port)) as first:
                await until(lambda: first.receiver.status().connected)
                async with running(config_of(keys, tmp_path / "second", port)) as second:
                    await until(lambda: "ALREADY_EXISTS" in second.receiver.status().last_error)
                    assert heard.refused[0][0] == "node-a"
                    assert first.receiver.status().connected
                assert not heard.gone
            await until(lambda: heard.gone == ["node-a"])

    asyncio.run(scenario())


def test_the_same_instance_replaces_its_own_broken_stream(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(keys) as (_, heard, port):
            config = config_of(keys, tmp_path / "a", port)
            async with running(config) as first:
                await until(lambda: first.receiver.status().connected)
                async with running(config):
                    await until(lambda: len(heard.connected) == 2)
                    assert not heard.refused

    asyncio.run(scenario())


def test_a_flood_of_answers_is_heard_at_a_measured_pace_and_only_in_printable_words(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            server.publish(publish(keys, 1, unit_of("shop", "a")))
            async with connect(config_of(keys, tmp_path / "a", port)) as stub:
                call = stub.Announce()
                await call.write(push_pb2.AgentMessage(hello=push_pb2.Hello(instance="i")))
                nonce = (await call.read()).announcement.nonce
                began = asyncio.get_running_loop().time()
                for number in range(200):
                    ack = push_pb2.Ack(nonce=nonce, error=f"{number}\n\x1b[31m", reason="Flood")
                    await call.write(push_pb2.AgentMessage(ack=ack))
                async with running(config_of(keys, tmp_path / "b", port, node="node-b")) as other:
                    await until(lambda: other.bundles)
                seconds = asyncio.get_running_loop().time() - began
                flood = [ack for node, ack in heard.acks if node == "node-a"]
                assert 0 < len(flood) <= seconds / ANSWER_PAUSE_SECONDS + 1
                assert all(ack.error.isprintable() for ack in flood)

    asyncio.run(scenario())


def test_one_node_may_open_only_so_many_inventory_streams(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, _, port):
            entry = AddressEntry(address="10.0.0.1", labels=parse_labels(["a=b"]))
            server.move_inventory(Change(come=(entry,)))
            async with connect(config_of(keys, tmp_path / "a", port)) as stub:
                calls = [stub.Inventory() for _ in range(MAX_FEEDS_PER_NODE)]
                for call in calls:
                    await call.write(push_pb2.InventoryAck(version=0))
                    assert (await call.read()).reset
                one_more = stub.Inventory()
                assert await one_more.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                calls.pop().cancel()
                async with running(config_of(keys, tmp_path / "b", port, node="node-b")) as other:
                    await until(lambda: other.inventories)

    asyncio.run(scenario())
