"""Tell whether maps hold what they should, every entry of them, without an object for each.

In:   maps; or the generation and the addresses that they should hold
Out:  fingerprints: SHA-256 over the sorted entries, by map
Shell over maps; changes nothing.

Holds always:
1. Equal entries have equal fingerprints, whatever order the kernel lists them in.
2. Every entry is read every time. What is saved, where all bytes come as they came last time, is sorting.
"""

from __future__ import annotations

import mmap
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import blake2b, sha256
from typing import Final

from nodeagent.datapath import libbpf, peers
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.generations import (
    PORT_CLASS_BYTES,
    GenerationMaps,
    open_inner,
    packed_generation,
    packed_ports,
)
from nodeagent.datapath.libbpf import Map
from nodeagent.plan.generation import AddressPlan, Generation

Fingerprints = Mapping[str, bytes]
ABSENT: Final = b""
_REMEMBERED_MAPS: Final = 64


def fingerprint(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Of a hash map's entries."""
    return sha256(b"".join(sorted(key + value for key, value in entries))).digest()


def of_generation(generation: Generation) -> Fingerprints:
    """What the maps of a slot that holds it must have."""
    found = {name: fingerprint(entries) for name, entries in packed_generation(generation).items()}
    return {**found, "port_class": sha256(packed_ports(generation.port_class_of)).digest()}


def of_addresses(plan: AddressPlan) -> Fingerprints:
    """What the address maps must have."""
    return {name: fingerprint(entries) for name, entries in peers.packed_addresses(plan).items()}


class FingerprintReader:
    """Reads maps. Remembers the bytes of the last reading by their digest."""

    def __init__(self) -> None:
        self._last: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()

    def read(self, source: Map) -> bytes:
        """The fingerprint of a hash map or trie."""
        parts = list(libbpf.batches_of(source))
        digest = blake2b(digest_size=32)
        for keys, values in parts:
            digest.update(keys)
            digest.update(values)
        as_read = digest.digest()
        known = self._last.get(source.id)
        if known is not None and known[0] == as_read:
            return known[1]
        entries = (
            entry
            for keys, values in parts
            for entry in libbpf.split(keys, values, source.key_bytes, source.value_bytes)
        )
        found = fingerprint(entries)
        self._last[source.id] = (as_read, found)
        while len(self._last) > _REMEMBERED_MAPS:
            self._last.popitem(last=False)
        return found

    def read_slot(self, maps: GenerationMaps, slot: int) -> Fingerprints:
        """The fingerprints of a slot's maps."""
        found = {
            name: self._read_inner(outer, slot)
            for name, outer in (
                ("policy", maps.policy),
                ("class_of", maps.class_of),
                ("endpoint_tables", maps.endpoint_tables),
            )
        }
        return {**found, "port_class": _read_ports(maps.port_class, slot)}

    def _read_inner(self, outer: Map, slot: int) -> bytes:
        inner = open_inner(outer, slot)
        if inner is None:
            return ABSENT
        try:
            return self.read(inner)
        finally:
            inner.close()


def _read_ports(outer: Map, slot: int) -> bytes:
    inner = open_inner(outer, slot)
    if inner is None:
        return ABSENT
    try:
        with mmap.mmap(inner.fd, PORT_CLASS_BYTES, prot=mmap.PROT_READ) as memory:
            return sha256(memory).digest()
    except OSError as error:
        raise DatapathError("mapping the port classes", errno=error.errno or 0) from error
    finally:
        inner.close()
