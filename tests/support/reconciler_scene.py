"""A real reconciler over a real repository, with real receivers in place of whole agents."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from netpolicy.status import Condition, ConditionType
from reconciler.app import Reconciler, standalone
from reconciler.config import ReconcilerConfig
from reconciler.notify import Target
from reconciler.push import PushConfig
from reconciler.signatures.rules import Verification
from reconciler.source import SourceConfig
from reconciler.state import fleet, judgements
from reconciler.state.database import Database
from reconciler.surroundings import Following
from reconciler.webhook import WebhookConfig
from tests.support.beside import beside
from tests.support.git_server_repository import PolicyRepository
from tests.support.push_fleet import Node, config_of, make_keys, running, until

INVENTORY = """\
cluster: default
namespaces: {shop: {labels: {}}}
nodes: [{name: node-a, addresses: [10.0.0.1]}]
pods:
  - {namespace: shop, name: web, node: node-a, labels: {app: web}, addresses: [10.1.0.1], interface: veth1}
"""

CONFIG = """\
state_dir: state
keys: keys
inventory: world/inventory.yaml
listen: "127.0.0.1:{port}"
agents_patience: 0
repository: {{url: "{url}", interval: 0.1}}
"""

DENY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: NAME, namespace: shop}
spec:
  endpointSelector: {}
  ingressDeny:
    - fromEntities: [world]
"""


def deny(name: str) -> str:
    """A policy of this name, as its author writes it."""
    return DENY.replace("NAME", name)


def a_free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Scene:
    """One reconciler's folder, its repository and its keys."""

    root: Path
    port: int = field(default_factory=a_free_port)
    nodes: tuple[str, ...] = ("node-a",)
    metrics_port: int = 0
    webhook: WebhookConfig | None = None
    interval_seconds: float = 0.1
    notifications: tuple[Target, ...] = ()
    verification: Verification | None = None
    agents_patience_seconds: float = 0.0
    """For scenes whose agents hold something that the reconciler has lost: wait for them."""

    def __post_init__(self) -> None:
        self.repository = PolicyRepository(self.root / "policies.git")
        self.keys = make_keys(self.root / "keys", nodes=self.nodes)
        (self.root / "world").mkdir()
        self.inventory = self.root / "world" / "inventory.yaml"
        self.inventory.write_text(INVENTORY)
        self.state = self.root / "state"

    @property
    def url(self) -> str:
        """Where the repository is."""
        return f"file://{self.repository.path}"

    @property
    def config(self) -> ReconcilerConfig:
        """As the fields say; it polls ten times a second."""
        return ReconcilerConfig(
            cluster="default",
            state_dir=self.state,
            keys=self.keys,
            inventory=self.inventory,
            following=Following(
                repository=SourceConfig(url=self.url),
                interval_seconds=self.interval_seconds,
                notifications=self.notifications,
                verification=self.verification,
            ),
            push=PushConfig.of_keys(self.keys, listen=f"127.0.0.1:{self.port}"),
            timestamp_interval_seconds=3600,
            agents_patience_seconds=self.agents_patience_seconds,
            metrics=f"127.0.0.1:{self.metrics_port}" if self.metrics_port else "",
            webhook=self.webhook,
        )

    @asynccontextmanager
    async def reconciling(self) -> AsyncIterator[Reconciler]:
        """Run the reconciler until the end of the block."""
        reconciler = standalone(self.config)
        async with beside(reconciler.run()):
            yield reconciler

    @asynccontextmanager
    async def agent(
        self, node: str = "node-a", *, capabilities: tuple[str, ...] = ("l4",), port: int = 0
    ) -> AsyncIterator[Node]:
        """Run a node's receiver until the end of the block; it dials the reconciler, or this port."""
        own = config_of(self.keys, self.root / f"agent-{node}", port or self.port, node=node)
        config = replace(own, capabilities=capabilities)
        async with running(config) as agent:
            yield agent

    def start_program(self) -> subprocess.Popen[bytes]:
        """`tidegate run`, as a process of its own."""
        config = self.root / "reconciler.yaml"
        config.write_text(CONFIG.format(root=self.root, port=self.port, url=self.url))
        tidegate = "from reconciler.cli import main; main()"
        command = [sys.executable, "-c", tidegate, "run", "--config", str(config)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def condition(self, kind: ConditionType = ConditionType.READY) -> Condition | None:
        """What the reconciler says of itself now."""
        with suppress(Exception):
            database = Database.open_read_only(self.state)
            try:
                found = {c.type: c for c in fleet.conditions(database)}
                return found.get(kind)
            finally:
                database.close()
        return None

    def judgement(self) -> judgements.Judgement | None:
        """The newest judgement."""
        database = Database.open_read_only(self.state)
        try:
            return judgements.last_judgement(database)
        finally:
            database.close()

    async def until_reason(self, reason: str) -> Condition:
        """Wait until the Ready condition has this reason."""
        await until(lambda: (self.condition() or None) and self.condition().reason == reason)  # type: ignore[union-attr]
        condition = self.condition()
        assert condition is not None
        return condition


def names_of(node: Node) -> list[str]:
    """The policies of the last bundle a node applied."""
    return sorted(policy.id.name for policy in node.bundles[-1].policies) if node.bundles else []
