"""A key directory, publications, a push server and receivers on loopback: the real things."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from netpolicy.bundle import Bundle, PackedUnit, pack_unit
from netpolicy.durable_files import DiskFiles, Files
from netpolicy.encryption import NodeKey
from netpolicy.evidence import NodeEvidence, Role
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Selector
from netpolicy.node_choice import NodeChoice
from netpolicy.node_encryption import NodeEncryption
from netpolicy.rules import Policy, PolicyId, PolicyKind, Unit
from netpolicy.terms import LabelPairs
from nodeagent.receive import BundleStore, ReceiveConfig, Receiver
from nodeagent.rollout.channels import Channels, InForce
from reconciler.publication import Publication
from reconciler.push import Ack, Hello, PushConfig, PushServer, Shelf
from reconciler.sign import Candidate, Signer, init_keys, sign_publication
from reconciler.sign.certificates import add_node, init_certificates
from reconciler.sign.keys import trusted_root
from tests.support.beside import beside

PATIENCE_SECONDS = 15.0
COMMIT = "c" * 40
NO_BUNDLE = Bundle(revision="", sequence=0, digest="", units=())
"""What a node enforces that was told to go back to no bundle at all."""


def make_keys(directory: Path, *, nodes: Iterable[str] = ("node-a",)) -> Path:
    """What `tidegate keys init` makes."""
    now = datetime.now(UTC)
    init_keys(directory, now=now)
    init_certificates(directory, server_names=("localhost", "127.0.0.1"), now=now)
    for node in nodes:
        add_node(directory, node, root=trusted_root(directory), now=now)
    return directory


def unit_of(namespace: str, *names: str) -> PackedUnit:
    """A unit with a policy of each name."""
    policies = tuple(
        Policy(id=PolicyId(kind=PolicyKind.CNP, namespace=namespace, name=name), subject=Selector())
        for name in names
    )
    return pack_unit(Unit(namespace=namespace, policies=policies))


def publish(
    keys: Path,
    sequence: int,
    *units: PackedUnit,
    previous: Publication | None = None,
    age: timedelta = timedelta(),
    candidate: Candidate | None = None,
    canary_nodes: LabelPairs = (),
    confirm_seconds: int = 0,
) -> Publication:
    """Sign these units as a publication, so long ago."""
    return sign_publication(
        previous,
        units={unit.namespace: unit for unit in units},
        revision=COMMIT,
        sequence=sequence,
        signer=Signer.load(keys),
        now=datetime.now(UTC) - age,
        candidate=candidate,
        canary_nodes=canary_nodes,
        confirm_seconds=confirm_seconds,
    )


def candidate_of(
    *units: PackedUnit, nodes: NodeChoice | None = None, commit: str = "d" * 40
) -> Candidate:
    """These units as a candidate for these nodes."""
    by_name = {unit.namespace: unit for unit in units}
    return Candidate(revision=commit, units=by_name, nodes=nodes or NodeChoice())


@dataclass
class Heard:
    """A push observer that remembers."""

    connected: list[tuple[str, Hello]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    acks: list[tuple[str, Ack]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    reports: list[tuple[str, NodeEvidence]] = field(default_factory=list)
    previews: list[tuple[str, NodeEvidence]] = field(default_factory=list)
    encrypting: dict[str, NodeEncryption] = field(default_factory=dict)

    def cannot_serve(self, hello: Hello) -> str:
        """Whoever says whatever is served."""
        return ""

    def agent_connected(self, node: str, hello: Hello) -> None:
        self.connected.append((node, hello))

    def agent_disconnected(self, node: str) -> None:
        self.gone.append(node)

    def agent_acked(self, node: str, ack: Ack) -> None:
        self.acks.append((node, ack))

    def evidence(self, node: str, evidence: NodeEvidence) -> None:
        self.reports.append((node, evidence))

    def preview(self, node: str, evidence: NodeEvidence) -> None:
        self.previews.append((node, evidence))

    def encryption(self, node: str, said: NodeEncryption) -> None:
        self.encrypting[node] = said

    def agent_refused(self, node: str, why: str) -> None:
        self.refused.append((node, why))

    @property
    def last(self) -> Ack | None:
        return self.acks[-1][1] if self.acks else None


@asynccontextmanager
async def serving(
    keys: Path, *, listen: str = "127.0.0.1:0", shelf: Shelf | None = None
) -> AsyncIterator[tuple[PushServer, Heard, int]]:
    """A push server on loopback, who listens to it, and its port."""
    heard = Heard()
    server = PushServer(PushConfig.of_keys(keys, listen=listen), observer=heard, shelf=shelf)
    port = await server.start()
    try:
        yield server, heard, port
    finally:
        await server.stop()


class FailingFiles(DiskFiles):
    """A disk on which the n-th step fails: killed before it, half way through it, or full."""

    def __init__(self, step: int, *, kill: bool, half: bool = False) -> None:
        self._left = step
        self._kill = kill
        self._half = half

    def write(self, path: Path, data: bytes) -> None:
        if self._is_due():
            if self._half:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data[: len(data) // 2])
            self._fail()
        super().write(path, data)

    def rename(self, source: Path, target: Path) -> None:
        if self._is_due():
            if self._half:
                source.replace(target)
            self._fail()
        super().rename(source, target)

    def _is_due(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _fail(self) -> None:
        if self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, "no space left on device")


class Node:
    """A receiver, and what it was given."""

    def __init__(
        self, config: ReceiveConfig, clock: Callable[[], float], files: Files | None
    ) -> None:
        root = config.root.read_bytes()
        self.store = BundleStore(config.state_dir, trusted_root=root, files=files)
        self.receiver = Receiver(
            config,
            apply=self._apply,
            inventory=self._take,
            evidence=self._evidence,
            preview=self._preview,
            node_keys=self._take_keys,
            encryption=lambda: self.encryption,
            store=self.store,
            clock=clock,
        )
        self.seen: NodeEvidence | None = None
        self.previewed: NodeEvidence | None = None
        self.encryption = NodeEncryption(node=config.node)
        self.node_keys: tuple[NodeKey, ...] = ()
        self.channels: list[Channels] = []
        self.bundles: list[Bundle] = []
        self.role = Role.NONE
        self.inventories: list[tuple[AddressEntry, ...]] = []
        self.fail_apply = ""
        self.before_apply: Callable[[], Awaitable[object]] | None = None
        self.waiting = False

    async def _apply(self, channels: Channels | None) -> InForce:
        if self.before_apply is not None:
            self.waiting = True
            await self.before_apply()
        if self.fail_apply:
            raise RuntimeError(self.fail_apply)
        if channels is None:
            self.bundles.append(NO_BUNDLE)
            return InForce(generation_digest="0" * 64)
        before = self.bundles[-1].digest if self.bundles else ""
        self.channels.append(channels)
        self.bundles.append(channels.stable)
        return InForce(
            generation_digest=channels.stable.digest[::-1],
            role=self.role,
            flipped=before != channels.stable.digest,
        )

    async def _preview(self) -> NodeEvidence | None:
        return self.previewed

    async def _evidence(self) -> NodeEvidence | None:
        return self.seen

    async def _take_keys(self, keys: tuple[NodeKey, ...]) -> None:
        self.node_keys = keys

    async def _take(self, entries: tuple[AddressEntry, ...]) -> None:
        self.inventories.append(entries)


def config_of(keys: Path, state: Path, port: int, *, node: str = "node-a") -> ReceiveConfig:
    """A node's configuration with its own certificate."""
    own = keys / "nodes" / node
    return ReceiveConfig(
        node=node,
        address=f"127.0.0.1:{port}",
        server_name="localhost",
        ca=own / "ca.pem",
        certificate=own / "node.pem",
        key=own / "node.key",
        root=own / "root.json",
        state_dir=state,
        agent_version="0.1.0",
    )


@asynccontextmanager
async def running(
    config: ReceiveConfig,
    *,
    clock: Callable[[], float] = time.time,
    files: Files | None = None,
) -> AsyncIterator[Node]:
    """A receiver that dials until the end of the block."""
    node = Node(config, clock, files)
    async with beside(node.receiver.run()):
        yield node


async def until(claim: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for a claim to hold; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)
