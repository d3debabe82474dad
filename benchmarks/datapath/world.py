"""A loaded datapath for measurements: pins of its own, generations of any size, many peers.

    client 10.90.0.1 ──▶ server 10.90.0.2 :7777      the hot pair
                    └──▶ 11.0.0.0 + n    :7777      one peer an entry of the generation

In:   how many entries
Out:  a Datapath whose client may reach the server and as many peers as there are entries
Shell over a private bpffs mount; the runner's mount namespace takes it down.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import (
    Datapath,
    DatapathConfig,
    GenerationLabel,
    ensure_loaded,
    libbpf,
    pins,
)
from nodeagent.datapath_options import DEFAULT_OPTIONS, DatapathOptions
from nodeagent.plan.generation import (
    AddressPlan,
    EndpointTable,
    Generation,
    LocalEndpoint,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)

OBJECT: Final = Path(__file__).resolve().parents[2] / "build" / "bpf" / "tidegate.bpf.o"
TABLE: Final = 1
CLIENT, SERVER = "10.90.0.1", "10.90.0.2"
CLIENT_ID, SERVER_ID = 11, 12
CLIENT_IDENTITY, SERVER_IDENTITY, WORLD_IDENTITY = 300, 301, 2
CLIENT_CLASS, SERVER_CLASS, PORT_CLASS = 2, 3, 1
PORT: Final = 7777
FIRST_PEER: Final = IPv4Address("11.0.0.0")
FIRST_PEER_IDENTITY: Final = 1_000_000
FIRST_PEER_CLASS: Final = 10
PAIR_ENTRIES: Final = 2
"""Client → server, at both ends: the entries that are not a peer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A loaded datapath, and the bpffs directory beside its pins."""

    datapath: Datapath
    config: DatapathConfig
    bpffs: Path

    def program(self, name: str) -> int:
        """A new descriptor of one of the programs; the caller closes it."""
        version = pins.current_version(self.config.bpffs)
        if version is None:
            raise RuntimeError("nothing is loaded")
        return libbpf.get_pinned(pins.program_path(self.config.bpffs, version, name))


@contextmanager
def loaded_world(
    *, conntrack_entries: int = 262_144, options: DatapathOptions = DEFAULT_OPTIONS
) -> Iterator[World]:
    """Programs and maps, loaded and pinned; everything detached and unpinned at the end."""
    with _bpffs() as root:
        config = DatapathConfig(
            bpffs=root / "bench",
            object_path=OBJECT,
            conntrack_entries=conntrack_entries,
            options=options,
        )
        ensure_loaded(config)
        datapath = Datapath.open(config)
        try:
            yield World(datapath=datapath, config=config, bpffs=root)
        finally:
            datapath.remove_all()
            datapath.close()


def generation_of(entries: int) -> Generation:
    """Client → server and client → each peer on PORT are allowed, all else is denied."""
    allow = PolicyEntry(Verdict.ALLOW, cookie=1)
    peers = range(entries - PAIR_ENTRIES)
    policy = {
        _key(SERVER_CLASS, Direction.EGRESS): allow,
        _key(CLIENT_CLASS, Direction.INGRESS): allow,
    } | {_key(FIRST_PEER_CLASS + n, Direction.EGRESS): allow for n in peers}
    class_of = {CLIENT_IDENTITY: CLIENT_CLASS, SERVER_IDENTITY: SERVER_CLASS} | {
        FIRST_PEER_IDENTITY + n: FIRST_PEER_CLASS + n for n in peers
    }
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


def label_of(generation: Generation) -> GenerationLabel:
    """A label for a generation that no bundle stands behind."""
    return GenerationLabel(
        generation_digest=generation.digest, bundle_digest=generation.digest, sequence=1
    )


def addresses_of(entries: int) -> AddressPlan:
    """Who is behind the addresses of the pair and of the peers."""
    peers = {str(FIRST_PEER + n): FIRST_PEER_IDENTITY + n for n in range(entries - PAIR_ENTRIES)}
    return AddressPlan(
        exact={CLIENT: CLIENT_IDENTITY, SERVER: SERVER_IDENTITY} | peers,
        prefixes={"0.0.0.0/0": WORLD_IDENTITY, "::/0": WORLD_IDENTITY},
    )


def client_endpoint(interface: str = "", *, mac: str = "") -> LocalEndpoint:
    """The pod that opens connections."""
    return _endpoint(CLIENT_ID, CLIENT_IDENTITY, CLIENT, interface, mac)


def server_endpoint(interface: str = "", *, mac: str = "") -> LocalEndpoint:
    """The pod that they lead to."""
    return _endpoint(SERVER_ID, SERVER_IDENTITY, SERVER, interface, mac)


def _endpoint(number: int, identity: int, address: str, interface: str, mac: str) -> LocalEndpoint:
    return LocalEndpoint(
        endpoint_id=number,
        identity=identity,
        interface=interface,
        namespace="bench",
        name=str(number),
        addresses=(address,),
        mac=mac,
    )


def _key(peer_class: int, direction: Direction) -> PolicyKey:
    return PolicyKey(TABLE, peer_class, int(direction), int(Protocol.TCP), PORT_CLASS)


@contextmanager
def _bpffs() -> Iterator[Path]:
    """A directory on a bpffs of its own."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory:
        subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)
