"""Publications and inventory reach a receiver over real mTLS, and survive what befalls them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
                assert node.store.load_last_good() == bundle

    asyncio.run(scenario())
