"""libbpf.so.1, as far as it is needed: the one place that calls it.

In:   file descriptors, bytes
Out:  the same; DatapathError with the kernel's errno for every call that fails
Shell over libbpf. Knows nothing of policy.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_char_p,
    c_int,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from enum import IntEnum
from errno import EINTR, EINVAL, ENODEV, ENOENT, ENOSPC
from pathlib import Path
from typing import Final

from nodeagent.datapath.errors import DatapathError

LIBRARY: Final = "libbpf.so.1"
BPF_ANY: Final = 0
F_REPLACE: Final = 1 << 2
F_BEFORE: Final = 1 << 3
F_MMAPABLE: Final = 1 << 10
BATCH: Final = 4096
MAX_HOOKED: Final = 64
"""As many programs as the kernel lets stand at one hook."""


class MapType(IntEnum):
    """`enum bpf_map_type`, as far as maps are created here."""

    HASH = 1
    ARRAY = 2


class _CreateOptions(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


class _TestRunOptions(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


class _MapDescription(Structure):
    """The head of `struct bpf_map_info`."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
    )


class _ProgramDescription(Structure):
    """The head of `struct bpf_prog_info`."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", ctypes.c_char * 16),
    )


class _AttachOptions(Structure):
    _fields_ = (("size", c_size_t), ("flags", c_uint32), ("replace_prog_fd", c_int))


_PRINT_CALLBACK: Final = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_QUIET: Final = _PRINT_CALLBACK(0)

_SIGNATURES: Final[dict[str, tuple[object, tuple[object, ...]]]] = {
    "libbpf_set_print": (c_void_p, (_PRINT_CALLBACK,)),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__find_map_by_name": (c_void_p, (c_void_p, c_char_p)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "bpf_map__reuse_fd": (c_int, (c_void_p, c_int)),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_map_create": (c_int, (c_uint32, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_char_p, c_char_p, c_uint64)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_char_p, c_void_p)),
    "bpf_map_delete_elem": (c_int, (c_int, c_char_p)),
    "bpf_map_update_batch": (c_int, (c_int, c_char_p, c_char_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_char_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_lookup_batch": (
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    ),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_attach_opts": (c_int, (c_int, c_int, c_int, POINTER(_AttachOptions))),
    "bpf_prog_detach2": (c_int, (c_int, c_int, c_int)),
    "bpf_prog_query": (
        c_int,
        (c_int, c_int, c_uint32, c_void_p, POINTER(c_uint32), POINTER(c_uint32)),
    ),
    "bpf_prog_test_run_opts": (c_int, (c_int, POINTER(_TestRunOptions))),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The library, its calls declared and its printing off: errors are raised, not printed."""
    try:
        libbpf = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError as error:
        raise DatapathError(f"{LIBRARY} is missing (Debian: apt-get install libbpf1)") from error
    for name, (result, arguments) in _SIGNATURES.items():
        call = getattr(libbpf, name)
        call.restype = result
        call.argtypes = arguments
    libbpf.libbpf_set_print(_QUIET)
    return libbpf


def check(result: int, what: str) -> int:
    """The result of a call, unless it is negative: then DatapathError."""
    if result < 0:
        raise DatapathError(what, errno=ctypes.get_errno() or -result)
    return result


@dataclass(frozen=True, slots=True)
class Map:
    """An open map: its descriptor, its name for messages, the sizes of its bytes."""

    fd: int
    name: str
    key_bytes: int
    value_bytes: int
    max_entries: int
    id: int

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def open_map(path: Path) -> Map:
    """Open a pinned map."""
    return describe_map(get_pinned(path), path.name)


def describe_map(fd: int, name: str) -> Map:
    """What a descriptor of a map stands for; takes the descriptor over."""
    description = _MapDescription()
    size = c_uint32(ctypes.sizeof(description))
    try:
        check(
            library().bpf_obj_get_info_by_fd(fd, byref(description), byref(size)),
            f"describing map {name}",
        )
    except DatapathError:
        os.close(fd)
        raise
    return Map(
        fd=fd,
        name=name,
        key_bytes=description.key_size,
        value_bytes=description.value_size,
        max_entries=description.max_entries,
        id=description.id,
    )


def object_id(fd: int) -> int:
    """The kernel's number for a program, or for a map: both descriptions begin alike."""
    return int(_describe_program(fd).id)


def program_id(fd: int) -> int:
    """The kernel's number for a program."""
    return object_id(fd)


def program_name(number: int) -> str:
    """The kernel's name of a program, of at most fifteen letters; empty if it is gone."""
    try:
        fd = open_program(number)
    except DatapathError as error:
        if error.errno == ENOENT:
            return ""
        raise
    try:
        return bytes(_describe_program(fd).name).decode(errors="surrogateescape")
    finally:
        os.close(fd)


def open_program(number: int) -> int:
    """A new descriptor of a program, by the kernel's number."""
    return check(library().bpf_prog_get_fd_by_id(number), f"opening program {number}")


def _describe_program(fd: int) -> _ProgramDescription:
    description = _ProgramDescription()
    size = c_uint32(ctypes.sizeof(description))
    check(
        library().bpf_obj_get_info_by_fd(fd, byref(description), byref(size)),
        "describing a program or map",
    )
    return description


def programs_at(ifindex: int, hook: int) -> tuple[int, ...] | None:
    """The kernel's numbers of the programs at a tcx hook, first to last; None: the kernel has no tcx."""
    room = c_uint32(MAX_HOOKED)
    found = (c_uint32 * MAX_HOOKED)()
    if library().bpf_prog_query(ifindex, hook, 0, None, found, byref(room)) < 0:
        error = ctypes.get_errno()
        if error == EINVAL:
            return None
        if error in (ENODEV, ENOENT):
            return ()
        raise DatapathError(f"asking for tcx programs of {ifindex}", errno=error)
    return tuple(found[: room.value])


def attach_program(
    ifindex: int, hook: int, program: int, *, in_place_of: int | None = None
) -> None:
    """Put a program before all others at a tcx hook, or, in one step, where another one stands."""
    options = _AttachOptions(flags=F_BEFORE)
    if in_place_of is not None:
        options = _AttachOptions(flags=F_REPLACE, replace_prog_fd=in_place_of)
    options.size = ctypes.sizeof(options)
    check(
        library().bpf_prog_attach_opts(program, ifindex, hook, byref(options)),
        f"attaching a program to interface {ifindex}",
    )


def detach_program(ifindex: int, hook: int, program: int) -> None:
    """Take a program off a tcx hook."""
    check(
        library().bpf_prog_detach2(program, ifindex, hook),
        f"detaching a program from interface {ifindex}",
    )


def pin(fd: int, path: Path) -> None:
    """Make a map or program outlive this process."""
    check(library().bpf_obj_pin(fd, os.fsencode(path)), f"pinning {path}")


def get_pinned(path: Path) -> int:
    """A new descriptor of a pinned map or program."""
    return check(library().bpf_obj_get(os.fsencode(path)), f"opening {path}")


def create_map(
    kind: MapType, name: str, *, key_bytes: int, value_bytes: int, max_entries: int, flags: int = 0
) -> Map:
    """Make a map that nothing refers to yet."""
    options = _CreateOptions(map_flags=flags)
    options.size = ctypes.sizeof(options)
    made = library().bpf_map_create(
        kind, name.encode(), key_bytes, value_bytes, max_entries, byref(options)
    )
    fd = check(made, f"creating map {name} of {max_entries} entries")
    return describe_map(fd, name)


def open_inner(map_id: int, name: str) -> Map:
    """Open a map by the kernel's number, as an array-of-maps gives it."""
    return describe_map(check(library().bpf_map_get_fd_by_id(map_id), f"opening {name}"), name)


def update(target: Map, key: bytes, value: bytes) -> None:
    """Write one entry."""
    check(
        library().bpf_map_update_elem(target.fd, key, value, BPF_ANY),
        f"writing to map {target.name}",
    )


def lookup(source: Map, key: bytes, *, value_bytes: int | None = None) -> bytes | None:
    """Read one entry. `value_bytes` differs from the map's where there is a value for each CPU."""
    value = ctypes.create_string_buffer(value_bytes or source.value_bytes)
    result = library().bpf_map_lookup_elem(source.fd, key, value)
    if result < 0 and ctypes.get_errno() == ENOENT:
        return None
    check(result, f"reading map {source.name}")
    return value.raw


def delete(target: Map, key: bytes) -> bool:
    """Remove one entry; False if there was none."""
    result = library().bpf_map_delete_elem(target.fd, key)
    if result < 0 and ctypes.get_errno() == ENOENT:
        return False
    check(result, f"deleting from map {target.name}")
    return True


def update_batch(target: Map, entries: list[tuple[bytes, bytes]]) -> None:
    """Write many entries; on failure some may have been written."""
    for start in range(0, len(entries), BATCH):
        part = entries[start : start + BATCH]
        count = c_uint32(len(part))
        result = library().bpf_map_update_batch(
            target.fd,
            b"".join(key for key, _ in part),
            b"".join(value for _, value in part),
            byref(count),
            None,
        )
        check(result, f"writing {len(entries)} entries to map {target.name}")


def delete_batch(target: Map, keys: list[bytes]) -> None:
    """Remove many entries."""
    for start in range(0, len(keys), BATCH):
        part = keys[start : start + BATCH]
        count = c_uint32(len(part))
        result = library().bpf_map_delete_batch(target.fd, b"".join(part), byref(count), None)
        check(result, f"deleting {len(keys)} entries from map {target.name}")


def entries_of(source: Map, *, value_bytes: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """All entries; one that is written meanwhile may be missing. `value_bytes` as in `lookup`."""
    deep = value_bytes or source.value_bytes
    for keys, values in batches_of(source, value_bytes=deep):
        yield from split(keys, values, source.key_bytes, deep)


def batches_of(source: Map, *, value_bytes: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """All entries, as the bytes of many keys and of their values at a time."""
    wide, deep = source.key_bytes, value_bytes or source.value_bytes
    room = BATCH
    position = ctypes.create_string_buffer(max(8, source.key_bytes))
    started = False
    while True:
        keys = ctypes.create_string_buffer(room * wide)
        values = ctypes.create_string_buffer(room * deep)
        count = c_uint32(room)
        following = ctypes.create_string_buffer(len(position))
        result = library().bpf_map_lookup_batch(
            source.fd, position if started else None, following, keys, values, byref(count), None
        )
        error = ctypes.get_errno() if result < 0 else 0
        if error == ENOSPC:  # a bucket with more entries than there is room for
            room *= 2
            continue
        if error not in (0, ENOENT, EINTR):
            raise DatapathError(f"reading map {source.name}", errno=error)
        found = count.value
        yield ctypes.string_at(keys, found * wide), ctypes.string_at(values, found * deep)
        if error == ENOENT:
            return
        position, started = following, True


def split(keys: bytes, values: bytes, wide: int, deep: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a batch, one by one."""
    for i in range(len(keys) // wide):
        yield keys[i * wide : (i + 1) * wide], values[i * deep : (i + 1) * deep]


def run_program(
    fd: int, packet: bytes, *, context: bytes | bytearray = b"", repeat: int = 1
) -> tuple[int, int]:
    """Run a program on a packet (BPF_PROG_TEST_RUN): its result, and nanoseconds a run.

    A context that can be written to, is, with what the program made of it.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    around = ctypes.create_string_buffer(bytes(context), len(context)) if context else None
    options = _TestRunOptions(
        data_in=ctypes.cast(data, c_void_p),
        data_size_in=len(packet),
        ctx_in=ctypes.cast(around, c_void_p) if around else None,
        ctx_size_in=len(context),
        repeat=repeat,
    )
    options.size = ctypes.sizeof(options)
    if around and isinstance(context, bytearray):
        options.ctx_out = ctypes.cast(around, c_void_p)
        options.ctx_size_out = len(context)
    check(library().bpf_prog_test_run_opts(fd, byref(options)), "running a program on a packet")
    if around and isinstance(context, bytearray):
        context[:] = around.raw
    return ctypes.c_int32(options.retval).value, options.duration


__all__ = [
    "F_MMAPABLE",
    "Map",
    "MapType",
    "attach_program",
    "batches_of",
    "check",
    "create_map",
    "delete",
    "delete_batch",
    "describe_map",
    "detach_program",
    "entries_of",
    "get_pinned",
    "library",
    "lookup",
    "object_id",
    "open_inner",
    "open_map",
    "open_program",
    "pin",
    "program_id",
    "program_name",
    "programs_at",
    "run_program",
    "split",
    "update",
    "update_batch",
]
