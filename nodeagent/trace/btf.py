"""Read where the running kernel keeps the fields of its structures.

In:   the bytes of /sys/kernel/btf/vmlinux
Out:  byte offsets of members, by structure and path (`net_device`, `nd_net.net`)
Pure. The format is the kernel's Documentation/bpf/btf.rst.

Holds always:
1. An offset is this kernel's own: kernel headers of another version are never asked.
2. A member that is absent, or is no whole byte, raises; nothing is guessed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = 0xEB9F
_HEADER: Final = "HBBIIIII"
_TYPE: Final = "III"

_STRUCT, _UNION, _FORWARD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = (
    4, 5, 7, 8, 9, 10, 11, 18,
)  # fmt: skip
_TRANSPARENT: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})

# Bytes that follow a type's record: kind → (fixed, for each of its `vlen` elements).
_TAIL: Final = {
    1: (4, 0),   # INT
    2: (0, 0),   # PTR
    3: (12, 0),  # ARRAY
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    6: (0, 8),   # ENUM
    _FORWARD: (0, 0),
    _TYPEDEF: (0, 0),
    _VOLATILE: (0, 0),
    _CONST: (0, 0),
    _RESTRICT: (0, 0),
    12: (0, 0),  # FUNC
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12), # DATASEC
    16: (0, 0),  # FLOAT
    17: (4, 0),  # DECL_TAG
    _TYPE_TAG: (0, 0),
    19: (0, 12), # ENUM64
}  # fmt: skip


class BtfError(Exception):
    """These bytes are no BTF we can read, or the kernel has no such member."""


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    type_id: int
    bit_offset: int
    is_bitfield: bool


class KernelTypes:
    """The types of one kernel. Only structure layouts can be asked for."""

    def __init__(self, data: bytes) -> None:
        """Index the types; raises BtfError on anything but whole BTF."""
        try:
            self._read(data)
        except (struct.error, KeyError) as error:
            raise BtfError("truncated or unknown BTF") from error

    def offset_of(self, structure: str, path: str) -> int:
        """Bytes from the start of `structure` to the member at `path`, through nested ones.

        A pointer ends the way: what it points to is another structure, with its own offsets.
        """
        type_id = self._structures.get(structure)
        if type_id is None:
            raise BtfError(f"this kernel has no struct {structure}")
        bits, is_bitfield = 0, False
        for name in path.split("."):
            member = self._find(type_id, name)
            if member is None:
                raise BtfError(f"this kernel's struct {structure} has no {path}")
            bits += member.bit_offset
            type_id, is_bitfield = member.type_id, member.is_bitfield
        if is_bitfield or bits % 8:
            raise BtfError(f"{structure}.{path} is a bit field")
        return bits // 8

    def _read(self, data: bytes) -> None:
        order = "<" if data[:2] == _MAGIC.to_bytes(2, "little") else ">"
        magic, _version, _flags, header, type_at, type_bytes, name_at, name_bytes = (
            struct.unpack_from(order + _HEADER, data)
        )
        if magic != _MAGIC:
            raise BtfError("not BTF")
        self._data, self._order = data, order
        self._names_at = header + name_at
        if len(data) < max(header + type_at + type_bytes, self._names_at + name_bytes):
            raise BtfError("truncated BTF")
        self._places = [0]  # where each type's record is; type 0 is void and has none
        self._structures: dict[str, int] = {}
        self._index(header + type_at, header + type_at + type_bytes)

    def _index(self, at: int, end: int) -> None:
        record = struct.Struct(self._order + _TYPE)
        while at < end:
            name_at, description, _ = record.unpack_from(self._data, at)
            kind, count = (description >> 24) & 0x1F, description & 0xFFFF
            if kind == _STRUCT and name_at:
                # The first of that name is the kernel's own; later ones come from odd units.
                self._structures.setdefault(self._name(name_at), len(self._places))
            self._places.append(at)
            fixed, each = _TAIL[kind]
            at += record.size + fixed + each * count

    def _name(self, at: int) -> str:
        start = self._names_at + at
        return self._data[start : self._data.index(0, start)].decode()

    def _find(self, type_id: int, name: str) -> _Member | None:
        """The member of that name, looked for inside anonymous structures and unions too."""
        for member in self._members(type_id):
            if member.name == name:
                return member
            if not member.name and (inner := self._find(member.type_id, name)):
                return _Member(
                    name=name,
                    type_id=inner.type_id,
                    bit_offset=member.bit_offset + inner.bit_offset,
                    is_bitfield=inner.is_bitfield,
                )
        return None

    def _members(self, type_id: int) -> Iterator[_Member]:
        unpack = struct.Struct(self._order + _TYPE).unpack_from
        _, description, target = unpack(self._data, self._places[type_id])
        kind = (description >> 24) & 0x1F
        if kind in _TRANSPARENT:
            yield from self._members(target)
        if kind not in (_STRUCT, _UNION):
            return
        has_bit_sizes = bool(description >> 31)
        first = self._places[type_id] + 12
        for index in range(description & 0xFFFF):
            name_at, member_type, place = unpack(self._data, first + 12 * index)
            yield _Member(
                name=self._name(name_at) if name_at else "",
                type_id=member_type,
                bit_offset=place & 0xFFFFFF if has_bit_sizes else place,
                is_bitfield=bool(has_bit_sizes and place >> 24),
            )
