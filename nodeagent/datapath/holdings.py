"""Everything the kernel holds of the datapath, as it stands: to be held against what was put there.

In:   maps, pins, the interfaces that should bear our programs
Out:  Holdings
Shell over the kernel; changes nothing. May run in a thread beside a writer: what it reads is then of no
one moment, and whoever finds a difference looks again while nobody writes.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodeagent.datapath import libbpf, local_ends, peers, pins
from nodeagent.datapath.control import Control
from nodeagent.datapath.endpoint_map import EndpointMap
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.filters import Filter, list_filters
from nodeagent.datapath.fingerprints import FingerprintReader, Fingerprints
from nodeagent.datapath.generations import GenerationLabel, GenerationMaps, read_label
from nodeagent.datapath.libbpf import Map
from nodeagent.datapath.pins import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """What is held. `pins`: path below bpffs → the kernel's number of the object, or where a link leads.
    `into_pod`: the number of the program that judges what is put into pods."""

    control: Control
    labels: Mapping[int, GenerationLabel | None]
    slots: Mapping[int, Fingerprints]
    addresses: Fingerprints
    endpoints: Mapping[int, bytes]
    local_ends: Mapping[bytes, bytes]
    into_pod: int
    interfaces: frozenset[int]
    filters: tuple[Filter, ...]
    pins: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMaps:
    """The maps that a plan fills."""

    generations: GenerationMaps
    addresses: Map
    prefixes: Map
    endpoints: EndpointMap
    local_ends: Map
    local_devices: Map
    into_pod: Map


def read_holdings(
    maps: HeldMaps,
    reader: FingerprintReader,
    *,
    control: Control,
    slots: Iterable[int],
    ifindexes: Iterable[int],
    pinned: Mapping[str, str],
) -> Holdings:
    """Read all of it; of filters and slots those that are asked for."""
    wanted = sorted(set(slots))
    present = frozenset(index for index, _ in socket.if_nameindex())
    return Holdings(
        control=control,
        labels={slot: read_label(maps.generations, slot) for slot in wanted},
        slots={slot: reader.read_slot(maps.generations, slot) for slot in wanted},
        addresses={
            "addresses": reader.read(maps.addresses),
            "prefixes": reader.read(maps.prefixes),
        },
        endpoints=peers.packed_endpoints(maps.endpoints),
        local_ends=local_ends.read_ends(maps.local_ends, maps.local_devices),
        into_pod=local_ends.called_program(maps.into_pod),
        interfaces=present,
        filters=list_filters(sorted(present & set(ifindexes))),
        pins=pinned,
    )


def read_pins(bpffs: Path, version: Version) -> dict[str, str]:
    """What stands at each path that the datapath needs; nothing for what is missing."""
    found = {}
    for path in pins.paths_of(bpffs, version):
        try:
            fd = libbpf.get_pinned(path)
        except DatapathError:
            continue
        try:
            found[str(path.relative_to(bpffs))] = str(libbpf.object_id(fd))
        finally:
            os.close(fd)
    with contextlib.suppress(OSError):
        found[pins.CURRENT] = os.readlink(bpffs / pins.CURRENT)
    return found


def restore_pins(bpffs: Path, version: Version, opened: Mapping[Path, int]) -> None:
    """Pin every object anew where it belongs: each path changes in one step."""
    for path, fd in opened.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        following = path.with_name(f"{path.name}_next")
        following.unlink(missing_ok=True)
        libbpf.pin(fd, following)
        following.rename(path)
    pins.make_current(bpffs, version)
