"""What a world leaves in the kernel, and how to take it away.

In:   a world's name
Out:  Leftovers: its processes, namespaces, mounts and directory; removed on request

Shell: owns /run/netns, /proc and the mount table, for names that begin with PREFIX only.

Holds always:
1. Only processes inside the world's own network namespaces are ended, found by namespace, not name.
2. A world whose owner lives, or that was kept on purpose, is never called abandoned.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "tgw-"
OWNER_FILE: Final = "owner"
KEPT: Final = "kept"
NETNS_DIRECTORY: Final = Path("/run/netns")
TERM_SECONDS: Final = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What exists of a world right now."""

    processes: tuple[int, ...]
    namespaces: tuple[str, ...]
    mounts: tuple[str, ...]
    directory: Path | None

    def __bool__(self) -> bool:
        return bool(self.processes or self.namespaces or self.mounts or self.directory)


def directory_of(name: str) -> Path:
    """Where a world keeps its files; it exists for as long as anything else of the world does."""
    return Path(tempfile.gettempdir()) / name


def survey(name: str) -> Leftovers:
    """Look for everything that bears this world's name."""
    namespaces = tuple(sorted(path.name for path in _namespace_files(name)))
    directory = directory_of(name)
    return Leftovers(
        processes=tuple(_processes_in(namespaces)),
        namespaces=namespaces,
        mounts=tuple(_mounts_under(directory)),
        directory=directory if directory.is_dir() else None,
    )


def sweep(name: str) -> Leftovers:
    """End and remove all of it; return what is still there (nothing, if all went well)."""
    found = survey(name)
    _end(found.processes)
    for mount in found.mounts:
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    for namespace in found.namespaces:
        subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)
    if found.directory:
        shutil.rmtree(found.directory, ignore_errors=True)
    return survey(name)


def claim(directory: Path) -> None:
    """Write down whose world this is: a pid alone could be somebody else's by tomorrow."""
    (directory / OWNER_FILE).write_text(f"{os.getpid()} {_start_time(os.getpid())}\n")


def keep(directory: Path) -> None:
    """Let this world outlive its owner; only an explicit sweep ends it."""
    (directory / OWNER_FILE).write_text(f"{KEPT}\n")


def abandoned() -> list[str]:
    """Worlds whose owner is gone without having taken them down."""
    return [name for name in worlds() if _owner_is_gone(directory_of(name))]


def worlds_of(pid: int) -> list[str]:
    """Worlds that this process built."""
    return [name for name in worlds() if _owner_words(directory_of(name))[:1] == [str(pid)]]


def worlds() -> list[str]:
    """Every world on this machine, kept ones included."""
    parent = Path(tempfile.gettempdir())
    return sorted(path.name for path in parent.glob(f"{PREFIX}*") if _is_ours(path))


def is_kept(name: str) -> bool:
    """True if this world was left up on purpose."""
    return _owner_words(directory_of(name)) == [KEPT]


def _is_ours(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid()


def _owner_is_gone(directory: Path) -> bool:
    words = _owner_words(directory)
    if words == [KEPT] or len(words) != 2:
        return False
    return _start_time(int(words[0])) != words[1]


def _owner_words(directory: Path) -> list[str]:
    """Pid and start time; nothing while the world is just being made or removed."""
    try:
        return (directory / OWNER_FILE).read_text().split()
    except OSError:
        return []


def _start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat, counted from behind the name, which may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "gone"
    return text.rpartition(")")[2].split()[19]


def _namespace_files(name: str) -> Iterator[Path]:
    if not name.startswith(PREFIX):
        raise ValueError(f"{name} is no world of ours")
    return NETNS_DIRECTORY.glob(f"{name}-*")


def _processes_in(namespaces: tuple[str, ...]) -> list[int]:
    ours = {_file_id(NETNS_DIRECTORY / name) for name in namespaces} - {None}
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if _file_id(Path(f"/proc/{pid}/ns/net")) in ours]


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _mounts_under(directory: Path) -> list[str]:
    """Mount points inside the directory, deepest first."""
    with open("/proc/self/mounts", encoding="utf-8") as table:
        points = {line.split()[1] for line in table}
    return sorted((p for p in points if Path(p).is_relative_to(directory)), reverse=True)


def _end(pids: tuple[int, ...]) -> None:
    """Ask, wait, insist."""
    waiting = _signal_all(pids, signal.SIGTERM)
    deadline = time.monotonic() + TERM_SECONDS
    while waiting and time.monotonic() < deadline:
        time.sleep(0.02)
        waiting = [pid for pid in waiting if _is_running(pid)]
    _signal_all(waiting, signal.SIGKILL)
    while any(_is_running(pid) for pid in waiting) and time.monotonic() < deadline + TERM_SECONDS:
        time.sleep(0.02)


def _signal_all(pids: tuple[int, ...] | list[int], number: int) -> list[int]:
    reached = []
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        reached.append(pid)
    return reached


def _is_running(pid: int) -> bool:
    """False for a zombie too: it holds nothing, and its parent will reap it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")
