"""A bootstrap server that knows tokens by heart, as an API server would, and agents that come to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nodeagent.bootstrap import BootstrapConfig
from nodeagent.receive import ReceiveConfig
from reconciler.bootstrap import BootstrapConfig as ServerConfig
from reconciler.bootstrap import BootstrapServer
from reconciler.sign.certificates import certify_node
from tests.support.push_fleet import config_of

DAY = timedelta(hours=24)


class KnownTokens:
    """Each token is the name of its node."""

    async def node_of(self, token: str) -> str:
        return token


@dataclass
class Clock:
    """A clock on the wall that is wrong."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def seconds(self) -> float:
        return self.now().timestamp()


@asynccontextmanager
async def certifying(keys: Path, clock: Clock | None = None) -> AsyncIterator[int]:
    """Certify whoever asks, for 24 hours from what the clock says; the port."""
    clock = clock or Clock()
    server = BootstrapServer(
        ServerConfig(
            listen="127.0.0.1:0",
            certificate=keys / "tls" / "server.pem",
            key=keys / "tls" / "server.key",
        ),
        speakers=KnownTokens(),
        certify=lambda node, key, _, life: certify_node(
            keys, node, key, now=clock.now(), lifetime=life
        ),
        lifetime=DAY,
    )
    try:
        yield await server.start()
    finally:
        await server.stop()


def agent_of(
    keys: Path, folder: Path, *, certify: int, push: int
) -> tuple[BootstrapConfig, ReceiveConfig]:
    """node-a's two halves: how it gets its certificate, and how it listens. Files of its own, in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text("node-a")
    (folder / "ca.pem").write_bytes((keys / "tls" / "ca.pem").read_bytes())
    bootstrap = BootstrapConfig(
        node="node-a",
        address=f"127.0.0.1:{certify}",
        server_name="localhost",
        ca=folder / "ca.pem",
        token=folder / "token",
        credential=folder / "credential.pem",
    )
    receive = replace(
        config_of(keys, folder / "state", push),
        ca=folder / "ca.pem",
        certificate=bootstrap.credential,
        key=bootstrap.credential,
        is_bootstrapped=True,
    )
    return bootstrap, receive
