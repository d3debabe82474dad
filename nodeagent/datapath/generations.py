"""Write one generation into a slot, and read back what a slot holds.

In:   Generation, GenerationLabel; the outer maps
Out:  filled inner maps; Generation's fields as the kernel has them
Shell over the generation maps.

Holds always:
1. Inner maps are made and filled before the slot names them; the label is written last and cleared
   first, so a slot whose label is set is whole.
2. A write that fails leaves every other slot as it was.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final, TypeAlias

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import abi, abi_numbers, libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map, MapType
from nodeagent.plan.generation import (
    ANY_CLASS,
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)

PROTOCOL_ORDER: Final = (
    Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP, Protocol.ICMPV6,
)  # fmt: skip
"""Where in the port classes a protocol lies (`protocol_index` in bpf/policy.h)."""

_POLICY_KEY: Final = Struct("=IIBBH")
_POLICY_ENTRY: Final = Struct("=BxHI")
_ENDPOINT_TABLE: Final = Struct("=IBBBxII")
_WORD: Final = Struct("=I")
_PORTS: Final = abi_numbers.ELEMENTS_PER_PROTOCOL * abi_numbers.PORTS_PER_ELEMENT
_ICMP_TYPES: Final = 256
PORT_CLASS_BYTES: Final = abi_numbers.PORT_CLASS_ELEMENTS * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLabel:
    """What a slot holds: digests and commit in hex, the publication's sequence."""

    generation_digest: str
    bundle_digest: str
    sequence: int
    commit: str = ""


@dataclass(frozen=True, slots=True)
class GenerationMaps:
    """The outer maps, one slot a generation."""

    policy: Map
    class_of: Map
    port_class: Map
    endpoint_tables: Map
    labels: Map


KernelGeneration: TypeAlias = (
    "tuple[dict[PolicyKey, PolicyEntry], dict[int, int], dict[int, array[int]],"
    " dict[int, EndpointTable]]"
)


def write_generation(
    maps: GenerationMaps, slot: int, generation: Generation, label: GenerationLabel
) -> None:
    """Fill a slot that no packet reads."""
    clear_label(maps, slot)
    packed = packed_generation(generation)
    _place(maps.policy, slot, _hash_map("policy", packed["policy"], 12, 8))
    _place(maps.class_of, slot, _hash_map("class_of", packed["class_of"], 4, 4))
    _place(maps.endpoint_tables, slot, _hash_map("tables", packed["endpoint_tables"], 4, 16))
    _place(maps.port_class, slot, _port_map(generation.port_class_of))
    write_label(maps, slot, label)


def clear_label(maps: GenerationMaps, slot: int) -> None:
    """Say that a slot holds nothing whole."""
    _write_label(maps, slot, bytes(maps.labels.value_bytes))


def write_label(maps: GenerationMaps, slot: int, label: GenerationLabel) -> None:
    """Say what a whole slot holds. One write: whoever dies before or after it leaves a true label."""
    _write_label(maps, slot, _pack_label(label))


def packed_generation(generation: Generation) -> dict[str, list[tuple[bytes, bytes]]]:
    """The entries of its hash maps, as the kernel holds them."""
    return {
        "policy": _policy_entries(generation),
        "class_of": _class_entries(generation),
        "endpoint_tables": _table_entries(generation),
    }


def packed_ports(port_class_of: Mapping[int, array[int]]) -> bytearray:
    """The port classes, as the kernel holds them."""
    if any(len(classes) > _PORTS for classes in port_class_of.values()):
        raise DatapathError("filling the port classes: more ports than a protocol has")
    packed = bytearray(PORT_CLASS_BYTES)
    for protocol, classes in port_class_of.items():
        start = PROTOCOL_ORDER.index(Protocol(protocol)) * _PORTS * 2
        packed[start : start + len(classes) * 2] = classes.tobytes()
    return packed


def read_generation(maps: GenerationMaps, slot: int) -> KernelGeneration:
    """What the kernel holds in a slot: policy, class_of, port_class_of, endpoint_tables."""
    policy = {
        PolicyKey(*_POLICY_KEY.unpack(key)): _policy_entry(value)
        for key, value in _inner_entries(maps.policy, slot)
    }
    class_of = {
        _WORD.unpack(key)[0]: _WORD.unpack(value)[0]
        for key, value in _inner_entries(maps.class_of, slot)
    }
    tables = {
        _WORD.unpack(key)[0]: _endpoint_table(value)
        for key, value in _inner_entries(maps.endpoint_tables, slot)
    }
    return policy, class_of, _read_ports(maps.port_class, slot), tables


def read_label(maps: GenerationMaps, slot: int) -> GenerationLabel | None:
    """What a slot holds; None if it holds nothing whole."""
    data = libbpf.lookup(maps.labels, _WORD.pack(slot))
    if not data or not any(data):
        return None
    label = abi.GenerationLabel.from_buffer_copy(data)
    commit = bytes(label.commit)
    return GenerationLabel(
        generation_digest=bytes(label.generation).hex(),
        bundle_digest=bytes(label.bundle).hex(),
        sequence=label.sequence,
        commit=commit.hex() if any(commit) else "",
    )


def _write_label(maps: GenerationMaps, slot: int, data: bytes) -> None:
    libbpf.update(maps.labels, _WORD.pack(slot), data)


def _pack_label(label: GenerationLabel) -> bytes:
    packed = abi.GenerationLabel(sequence=label.sequence)
    for field, text in (
        ("generation", label.generation_digest),
        ("bundle", label.bundle_digest),
        ("commit", label.commit),
    ):
        data, room = bytes.fromhex(text), getattr(packed, field)
        if len(data) not in (0, len(room)):
            raise DatapathError(f"a {field} of {len(data)} bytes does not fit a label")
        room[: len(data)] = data
    return bytes(packed)


def _place(outer: Map, slot: int, inner: Map) -> None:
    """Let a slot name an inner map, which then lives as long as the slot does."""
    try:
        libbpf.update(outer, _WORD.pack(slot), _WORD.pack(inner.fd))
    finally:
        inner.close()


def _hash_map(
    name: str, entries: list[tuple[bytes, bytes]], key_bytes: int, value_bytes: int
) -> Map:
    made = libbpf.create_map(
        MapType.HASH,
        name,
        key_bytes=key_bytes,
        value_bytes=value_bytes,
        max_entries=max(1, len(entries)),
    )
    try:
        libbpf.update_batch(made, entries)
    except DatapathError:
        made.close()
        raise
    return made


def _policy_entries(generation: Generation) -> list[tuple[bytes, bytes]]:
    pack_key, pack_entry = _POLICY_KEY.pack, _POLICY_ENTRY.pack
    return [
        (
            pack_key(key.table, key.peer_class, key.direction, key.protocol, key.port_class),
            pack_entry(entry.verdict, entry.proxy_port, entry.cookie),
        )
        for key, entry in generation.policy.items()
    ]


def _class_entries(generation: Generation) -> list[tuple[bytes, bytes]]:
    return [(_WORD.pack(i), _WORD.pack(peer)) for i, peer in generation.class_of.items()]


def _table_entries(generation: Generation) -> list[tuple[bytes, bytes]]:
    kinds = _kinds_of(generation.policy)
    return [
        (
            _WORD.pack(endpoint_id),
            _ENDPOINT_TABLE.pack(
                table.table,
                table.flags,
                *(kinds.get((table.table, way), 0) for way in sorted(Direction)),
                table.ingress_cookie,
                table.egress_cookie,
            ),
        )
        for endpoint_id, table in generation.endpoint_tables.items()
    ]


def _kinds_of(policy: Iterable[PolicyKey]) -> dict[tuple[int, int], int]:
    """(table, direction) → a bit for each kind of entry that is there; the programs look for no other."""
    found = {
        (key.table, key.direction, key.peer_class == ANY_CLASS, key.port_class == ANY_CLASS)
        for key in policy
    }
    kinds: dict[tuple[int, int], int] = {}
    for table, direction, any_peer, any_port in found:
        kind = any_peer * abi_numbers.EntryKind.ANY_PEER + any_port * abi_numbers.EntryKind.ANY_PORT
        kinds[table, direction] = kinds.get((table, direction), 0) | 1 << kind
    return kinds


def _policy_entry(value: bytes) -> PolicyEntry:
    verdict, proxy_port, cookie = _POLICY_ENTRY.unpack(value)
    return PolicyEntry(verdict=Verdict(verdict), cookie=cookie, proxy_port=proxy_port)


def _endpoint_table(value: bytes) -> EndpointTable:
    table, flags, _, _, ingress, egress = _ENDPOINT_TABLE.unpack(value)
    return EndpointTable(
        table=table, flags=TableFlag(flags), ingress_cookie=ingress, egress_cookie=egress
    )


def _port_map(port_class_of: Mapping[int, array[int]]) -> Map:
    """A mapped array: filled by copying, not by 80,000 calls."""
    packed = packed_ports(port_class_of)
    made = libbpf.create_map(
        MapType.ARRAY,
        "port_class",
        key_bytes=4,
        value_bytes=8,
        max_entries=abi_numbers.PORT_CLASS_ELEMENTS,
        flags=libbpf.F_MMAPABLE,
    )
    try:
        with mmap.mmap(made.fd, PORT_CLASS_BYTES) as memory:
            memory[:] = packed
    except (OSError, ValueError) as error:
        made.close()
        raise DatapathError(f"filling the port classes: {error}") from error
    return made


def open_inner(outer: Map, slot: int) -> Map | None:
    """The map that a slot names."""
    found = libbpf.lookup(outer, _WORD.pack(slot))
    return libbpf.open_inner(_WORD.unpack(found)[0], outer.name) if found else None


def _inner_entries(outer: Map, slot: int) -> list[tuple[bytes, bytes]]:
    inner = open_inner(outer, slot)
    if inner is None:
        return []
    try:
        return list(libbpf.entries_of(inner))
    finally:
        inner.close()


def _read_ports(outer: Map, slot: int) -> dict[int, array[int]]:
    inner = open_inner(outer, slot)
    if inner is None:
        return {}
    try:
        with mmap.mmap(inner.fd, PORT_CLASS_BYTES, prot=mmap.PROT_READ) as memory:
            return _unpack_ports(memory[:])
    except OSError as error:
        raise DatapathError("mapping the port classes", errno=error.errno or 0) from error
    finally:
        inner.close()


def _unpack_ports(data: bytes) -> dict[int, array[int]]:
    """Protocols without any class are left out, as a Generation does."""
    found = {}
    for index, protocol in enumerate(PROTOCOL_ORDER):
        ports = _ICMP_TYPES if protocol in (Protocol.ICMP, Protocol.ICMPV6) else _PORTS
        start = index * _PORTS * 2
        part = data[start : start + ports * 2]
        if any(part):
            found[int(protocol)] = array("H", part)
    return found
