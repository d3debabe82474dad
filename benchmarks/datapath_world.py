"""A loaded datapath for measurements: pins of its own, generations of any size.

In:   how many entries
Out:  a Datapath whose one endpoint may be reached by one peer on one port, among many entries
Shell over a private bpffs mount; the runner's mount namespace takes it down.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Datapath, DatapathConfig, GenerationLabel, ensure_loaded
from nodeagent.plan.generation import (
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)

OBJECT: Final = Path(__file__).resolve().parents[1] / "build" / "bpf" / "tidegate.bpf.o"
TABLE: Final = 1
CLIENT_ID, SERVER_ID = 11, 12
CLIENT_IDENTITY, SERVER_IDENTITY = 300, 301
CLIENT_CLASS, SERVER_CLASS, PORT_CLASS = 2, 3, 1
PORT: Final = 7777
NOBODYS_IDENTITIES: Final = 1_000_000
"""Identities from here on fill the maps; no packet bears them."""


@contextmanager
def bpffs() -> Iterator[Path]:
    """A directory on a bpffs of its own."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


@contextmanager
def loaded_datapath() -> Iterator[Datapath]:
    """Programs and maps, loaded and pinned; everything detached and unpinned at the end."""
    with bpffs() as root:
        config = DatapathConfig(bpffs=root / "bench", object_path=OBJECT)
        ensure_loaded(config)
        datapath = Datapath.open(config)
        try:
            yield datapath
        finally:
            datapath.remove_all()
            datapath.close()


def generation_of(entries: int) -> Generation:
    """Client → server on PORT is allowed, all else denied; padded to so many policy entries."""
    allow = PolicyEntry(Verdict.ALLOW, cookie=1)
    policy = {
        _key(SERVER_CLASS, Direction.EGRESS): allow,
        _key(CLIENT_CLASS, Direction.INGRESS): allow,
    }
    class_of = {CLIENT_IDENTITY: CLIENT_CLASS, SERVER_IDENTITY: SERVER_CLASS}
    for number in range(entries - len(policy)):
        other = PORT_CLASS + 2 + number
        policy[_key(other + SERVER_CLASS, Direction.INGRESS)] = allow
        class_of[NOBODYS_IDENTITIES + number] = other + SERVER_CLASS
    ports = array("H", bytes(2 * 65536))
    ports[PORT] = PORT_CLASS
    closed = TableFlag.DENY_INGRESS | TableFlag.DENY_EGRESS
    tables = {end: EndpointTable(TABLE, closed) for end in (CLIENT_ID, SERVER_ID)}
    return Generation(
        policy=policy,
        class_of=class_of,
        port_class_of={int(Protocol.TCP): ports},
        endpoint_tables=tables,
        attributions={},
        digest=hashlib.sha256(str(entries).encode()).hexdigest(),
    )


def without_rules(generation: Generation) -> Generation:
    """The same world with everything denied."""
    digest = hashlib.sha256(f"{generation.digest} without rules".encode()).hexdigest()
    return replace(generation, policy={}, digest=digest)


def label_of(generation: Generation) -> GenerationLabel:
    """A label for a generation that no bundle stands behind."""
    return GenerationLabel(
        generation_digest=generation.digest, bundle_digest=generation.digest, sequence=1
    )


def _key(peer_class: int, direction: Direction) -> PolicyKey:
    return PolicyKey(TABLE, peer_class, int(direction), int(Protocol.TCP), PORT_CLASS)
