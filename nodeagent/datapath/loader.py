"""Load the compiled object and pin it, in a process of its own.

    python -m nodeagent.datapath.loader --bpffs DIR --object FILE --conntrack-entries N [...]

In:   the object that `make bpf` compiled
Out:  a whole version under bpffs, named `current`; prints `adopted`, `loaded` or `replaced`
Shell over libbpf. Its own process, as verifying and loading leave memory behind that the agent
should not carry.

Holds always:
1. Killed at any point, it leaves the version before whole and in use.
2. Maps whose layout and size are unchanged are shared with the version before, so that generations,
   flows and addresses outlive an upgrade of the programs. A map of another size takes over the entries;
   a smaller one that has no room for them is refused.
3. Of another layout, flows alone are taken over, if their own is unchanged, and revisions go on counting.
   The other maps start empty, with no active generation: interfaces keep the old programs, and their
   policy, until the agent has filled the new maps and `attach` replaces the programs.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodeagent.datapath import abi, abi_numbers, libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.kernel_age import refusal
from nodeagent.datapath.loading import LoadOutcome
from nodeagent.datapath.pins import (
    FLOW_MAPS,
    MAPS,
    OWN_MAPS,
    PROGRAMS,
    DatapathConfig,
    Version,
    is_whole,
    kernel_name,
    make_current,
    make_room,
    map_path,
    named_version,
    program_path,
    version_of,
)
from nodeagent.datapath.settings import pack_settings
from nodeagent.datapath_options import DEFAULT_OPTIONS, DatapathOptions, FlowLifetimes

BPFFS_ROOT: Final = Path("/sys/fs/bpf")
CONSTANTS: Final = ".rodata.settings"
_BPFFS_MAGIC: Final = "cafe4a11"


def load(config: DatapathConfig) -> LoadOutcome:
    """Do the work, in this process."""
    _mount_bpffs(config.bpffs)
    with _alone(config.bpffs):
        wanted, before = version_of(config), named_version(config.bpffs)
        if before == wanted:
            if is_whole(config.bpffs, wanted):
                return LoadOutcome.ADOPTED
            before = None
        shared = _shared_maps(config.bpffs, before, wanted) if before else ()
        make_room(config.bpffs, wanted)
        _load_and_pin(config, wanted, before, shared)
        make_current(config.bpffs, wanted)
        return LoadOutcome.REPLACED if before else LoadOutcome.LOADED


def _shared_maps(bpffs: Path, before: Version, wanted: Version) -> tuple[str, ...]:
    """The maps that both versions can use: all, or those of flows, or none.

    What a plan fills is not taken over into another layout. Flows are, if theirs is unchanged: without
    them, connections would be judged anew from the middle, and answers refused that nobody opened.
    """
    if before.abi == wanted.abi and is_whole(bpffs, before):
        return tuple(name for name in MAPS if name not in OWN_MAPS)
    same_flows = before.flow_layout == wanted.flow_layout and all(
        map_path(bpffs, before, name).exists() for name in FLOW_MAPS
    )
    return FLOW_MAPS if same_flows and _revision_of(bpffs, before) is not None else ()


def _mount_bpffs(directory: Path) -> None:
    """Mount bpffs where it belongs, if this directory is to be there and it is not yet."""
    if BPFFS_ROOT in directory.parents and not _is_bpffs(BPFFS_ROOT):
        mount = ["mount", "-t", "bpf", "bpf", str(BPFFS_ROOT)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DatapathError(f"bpffs cannot be mounted: {done.stderr.strip()}")
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DatapathError(f"{directory} cannot be made: {error}") from error
    if not _is_bpffs(directory):
        raise DatapathError(f"{directory} is not on a BPF file system")


def _is_bpffs(directory: Path) -> bool:
    shown = subprocess.run(
        ["stat", "-f", "-c", "%t", str(directory)], capture_output=True, text=True, check=False
    )
    return shown.stdout.strip() == _BPFFS_MAGIC


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One loader a directory at a time."""
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _load_and_pin(
    config: DatapathConfig, version: Version, before: Version | None, shared: tuple[str, ...]
) -> None:
    library = libbpf.library()
    opened = library.bpf_object__open_file(os.fsencode(config.object_path), None)
    if not opened:
        raise DatapathError(f"opening {config.object_path}", errno=ctypes.get_errno())
    try:
        for name, entries in config.map_sizes.items():
            libbpf.check(
                library.bpf_map__set_max_entries(_map_named(opened, name), entries),
                f"sizing {name}",
            )
        _set_constants(opened, pack_settings(config.options))
        resized = _reuse_maps(opened, config, before, shared) if before else ()
        _load(opened, config.object_path)
        if before:
            _carry_over(opened, config, before, resized)
        if "control" not in shared:
            revision = _revision_of(config.bpffs, before) if before and shared else None
            _mark_not_ready(library.bpf_map__fd(_map_named(opened, "control")), revision or 0)
        _pin_all(opened, config.bpffs, version)
    finally:
        library.bpf_object__close(opened)


def _load(opened: int, object_path: Path) -> None:
    if (result := libbpf.library().bpf_object__load(opened)) < 0:
        errno = ctypes.get_errno() or -result
        release = os.uname().release
        raise DatapathError(refusal(f"loading {object_path}", release=release, errno=errno))


def _map_named(opened: int, name: str) -> int:
    found = libbpf.library().bpf_object__find_map_by_name(opened, name.encode())
    if not found:
        raise DatapathError(f"the object has no map {name}")
    return int(found)


def _set_constants(opened: int, data: bytes) -> None:
    size = ctypes.c_size_t()
    place = libbpf.library().bpf_map__initial_value(
        _map_named(opened, CONSTANTS), ctypes.byref(size)
    )
    if not place or size.value != len(data):
        raise DatapathError(f"the object's constants are {size.value} bytes, not {len(data)}")
    ctypes.memmove(place, data, len(data))


def _reuse_maps(
    opened: int, config: DatapathConfig, before: Version, shared: tuple[str, ...]
) -> tuple[str, ...]:
    """Take over maps of the version before; return the names of those whose size differs."""
    resized = []
    for name in shared:
        old = libbpf.open_map(map_path(config.bpffs, before, name))
        try:
            if old.max_entries != config.map_sizes.get(name, old.max_entries):
                resized.append(name)
                continue
            libbpf.check(
                libbpf.library().bpf_map__reuse_fd(_map_named(opened, name), old.fd),
                f"taking over map {name}",
            )
        finally:
            old.close()
    return tuple(resized)


def _carry_over(
    opened: int, config: DatapathConfig, before: Version, resized: tuple[str, ...]
) -> None:
    """Copy what the maps of another size held: an address that is missing would pass for the world's."""
    for name in resized:
        old = libbpf.open_map(map_path(config.bpffs, before, name))
        fd = os.dup(libbpf.library().bpf_map__fd(_map_named(opened, name)))
        new = libbpf.describe_map(fd, name)
        try:
            libbpf.update_batch(new, list(libbpf.entries_of(old)))
        finally:
            old.close()
            new.close()


def _revision_of(bpffs: Path, before: Version) -> int | None:
    """The revision that flows were judged under: the next one must be another, or they would pass for
    judged by a generation that they never met. None if it cannot be told."""
    path = map_path(bpffs, before, "control")
    if not path.exists():
        return None
    control = libbpf.open_map(path)
    try:
        word = libbpf.lookup(control, bytes(4)) or b""
    finally:
        control.close()
    if len(word) != ctypes.sizeof(abi.Control):
        return None
    return int(abi.Control.from_buffer_copy(word).revision)


def _mark_not_ready(control_fd: int, revision: int) -> None:
    """A fresh control word is all zeros, which would name slot 0 as active."""
    none = abi_numbers.NO_SLOT
    word = abi.Control(revision=revision, active=none, candidate=none, preview=none, previous=none)
    control = libbpf.describe_map(os.dup(control_fd), "control")
    try:
        libbpf.update(control, bytes(4), bytes(word))
    finally:
        control.close()


def _pin_all(opened: int, bpffs: Path, version: Version) -> None:
    library = libbpf.library()
    for name in MAPS:
        libbpf.pin(library.bpf_map__fd(_map_named(opened, name)), map_path(bpffs, version, name))
    found = {}
    program = library.bpf_object__next_program(opened, None)
    while program:
        found[library.bpf_program__name(program).decode()] = library.bpf_program__fd(program)
        program = library.bpf_object__next_program(opened, program)
    for name in PROGRAMS:
        if kernel_name(name) not in found:
            raise DatapathError(f"the object has no program {kernel_name(name)}")
        libbpf.pin(found[kernel_name(name)], program_path(bpffs, version, name))


def _options(text: str) -> DatapathOptions:
    """As `ensure_loaded` writes them."""
    given = json.loads(text)
    given["lifetimes"] = FlowLifetimes(**given["lifetimes"])
    given["unjudged_ethertypes"] = tuple(given["unjudged_ethertypes"])
    return DatapathOptions(**given)


def main() -> int:
    """The command line of the child process."""
    parser = argparse.ArgumentParser(prog="python -m nodeagent.datapath.loader")
    parser.add_argument("--bpffs", type=Path, required=True)
    parser.add_argument("--object", type=Path, required=True, dest="object_path")
    parser.add_argument("--conntrack-entries", type=int, required=True)
    parser.add_argument("--options", type=_options, default=DEFAULT_OPTIONS)
    try:
        outcome = load(DatapathConfig(**vars(parser.parse_args())))
    except DatapathError as error:
        print(error, file=sys.stderr)
        return 1
    print(outcome)
    return 0


if __name__ == "__main__":
    sys.exit(main())
