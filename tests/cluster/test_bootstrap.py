"""Agents get certificates for their pods' tokens, from a real API server's TokenRequest and TokenReview."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kubernetes import client

from netpolicy.errors import TransientError
from nodeagent.bootstrap import CertificateKeeper
from nodeagent.bootstrap.client import ask
from nodeagent.bootstrap.credential import decode, new_key, request_for, take
from tests.support.beside import beside
from tests.support.kube_bootstrap import NAMESPACE, bootstrap, make_accounts, start_pod, token_of
from tests.support.kube_server import KubeServer
from tests.support.push_fleet import config_of, make_keys, publish, running, serving, unit_of, until

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def namespace(server: KubeServer) -> str:
    """A namespace with the agents' service account, and another that is not theirs."""
    make_accounts(server)
    return NAMESPACE


def test_an_agent_gets_a_certificate_and_speaks_as_its_node(
    server: KubeServer, namespace: str, tmp_path: Path
) -> None:
    start_pod(server, "agent-1", node="node-1")

    async def scenario() -> None:
        async with bootstrap(server, tmp_path) as place, serving(place.keys) as (push, heard, port):
            config = place.config("node-1", token_of(server, "agent-1"))
            keeper = CertificateKeeper(config)
            async with beside(keeper.run()):
                await asyncio.wait_for(keeper.usable.wait(), 15)
            assert config.credential.stat().st_mode & 0o777 == 0o600
            push.publish(publish(place.keys, 1, unit_of("shop", "one")))
            receive = replace(
                config_of(place.keys, tmp_path / "state", port, node="node-a"),
                node="node-1",
                certificate=config.credential,
                key=config.credential,
            )
            async with running(receive) as node:
                await until(lambda: node.bundles)
                assert heard.connected[0][0] == "node-1"

    asyncio.run(scenario())


def test_whoever_is_not_the_agent_of_a_node_is_refused(
    server: KubeServer, namespace: str, tmp_path: Path
) -> None:
    start_pod(server, "agent-2", node="node-2")
    start_pod(server, "web", node="node-2", account="default")

    async def scenario() -> None:
        async with bootstrap(server, tmp_path) as place:
            good = token_of(server, "agent-2")
            refused = {
                "another audience": token_of(server, "agent-2", audience="elsewhere"),
                "another account": token_of(server, "web", account="default"),
                "bound to no pod": token_of(server, None),
                "tampered with": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
                "no token": "nothing",
            }
            for token in refused.values():
                config = place.config("node-2", token)
                with pytest.raises(TransientError, match="UNAUTHENTICATED"):
                    await ask(config, request_for("node-2", new_key()))
            with pytest.raises(TransientError, match="PERMISSION_DENIED: you are node-2"):
                await ask(place.config("node-2", good), request_for("node-1", new_key()))
            key = new_key()
            given = await ask(place.config("node-2", good), request_for("node-2", key))
            assert take(given, key, node="node-2").is_valid(datetime.now(UTC))

    asyncio.run(scenario())


def test_the_token_of_a_pod_that_is_gone_counts_for_nothing(
    server: KubeServer, namespace: str, tmp_path: Path
) -> None:
    start_pod(server, "agent-3", node="node-3")
    token = token_of(server, "agent-3")
    api = client.CoreV1Api(server.api_client())
    api.delete_namespaced_pod("agent-3", NAMESPACE, grace_period_seconds=0)
    start_pod(server, "agent-3", node="node-4")

    async def scenario() -> None:
        async with bootstrap(server, tmp_path) as place:
            for node in ("node-3", "node-4"):
                with pytest.raises(TransientError, match="UNAUTHENTICATED"):
                    await ask(place.config(node, token), request_for(node, new_key()))

    asyncio.run(scenario())


def test_an_agent_renews_in_time_and_keeps_what_it_has_while_nobody_answers(
    server: KubeServer, namespace: str, tmp_path: Path
) -> None:
    start_pod(server, "agent-5", node="node-5")

    async def scenario() -> None:
        # Of a life of 306 s, 300 are past when it begins: room for clocks that differ.
        async with bootstrap(server, tmp_path, lifetime=timedelta(seconds=6)) as place:
            config = place.config("node-5", token_of(server, "agent-5"))
            keeper = CertificateKeeper(config, least_pause=timedelta(seconds=0.1))
            async with beside(keeper.run()):
                await asyncio.wait_for(keeper.usable.wait(), 15)
                first = config.credential.read_bytes()
                await until(lambda: config.credential.read_bytes() != first)
        last = config.credential.read_bytes()
        held = decode(last, node="node-5")
        assert held is not None
        keeper = CertificateKeeper(config, clock=lambda: held.certificate.not_valid_before_utc)
        assert keeper.usable.is_set()
        keeper = CertificateKeeper(config)
        async with beside(keeper.run()):
            await until(lambda: "UNAVAILABLE" in "".join(keeper.alarms()))
        assert config.credential.read_bytes() == last

    asyncio.run(scenario())


def test_a_server_that_cannot_prove_itself_is_given_no_token(
    server: KubeServer, namespace: str, tmp_path: Path
) -> None:
    start_pod(server, "agent-6", node="node-6")

    async def scenario() -> None:
        async with bootstrap(server, tmp_path) as place:
            other = make_keys(tmp_path / "other")
            config = replace(
                place.config("node-6", token_of(server, "agent-6")), ca=other / "tls" / "ca.pem"
            )
            with pytest.raises(TransientError, match="UNAVAILABLE"):
                await ask(config, request_for("node-6", new_key()))

    asyncio.run(scenario())


def test_while_the_api_server_is_away_nobody_is_certified(
    server: KubeServer, namespace: str, tmp_path: Path
) -> None:
    start_pod(server, "agent-7", node="node-7")
    text = server.kubeconfig.read_text().replace(server.url, "https://127.0.0.1:1")
    away = tmp_path / "away.kubeconfig"
    away.write_text(text)

    async def scenario() -> None:
        async with bootstrap(replace(server, kubeconfig=away), tmp_path) as place:
            config = place.config("node-7", token_of(server, "agent-7"))
            with pytest.raises(TransientError, match="UNAVAILABLE: the reconciler cannot find"):
                await ask(config, request_for("node-7", new_key()))

    asyncio.run(scenario())
