"""Write trees and archives as layers: equal content, equal bytes.

In:   a folder, or an archive that mmdebstrap made
Out:  a tar archive with sorted entries, one modification time and no names of users
Shell over files.

Holds always:
1. No entry is younger than the epoch, none carries the name of a user or of the machine.
2. Nothing of `/dev`, `/proc`, `/sys`, and no cache or log, is in a layer.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Final

_EMPTY: Final = ("dev", "proc", "sys", "run", "tmp", "var/cache", "var/log", "var/lib/apt")
"""Folders that stay, without what is in them."""

_LEFT_OUT: Final = frozenset(
    {"etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"}
)
"""What is of the machine that it was built on, or of the one that it runs on."""


def from_archive(archive: Path, target: Path, *, epoch: int) -> None:
    """Rewrite a root file system's archive."""
    with tarfile.open(archive) as source, _open(target) as layer:
        members = {_path(member): member for member in source.getmembers()}
        for path, member in sorted(members.items()):
            if _belongs(path):
                data = source.extractfile(member) if member.isreg() else None
                _add(layer, path, member, data, epoch=epoch)


def from_folder(folder: Path, target: Path, *, epoch: int) -> None:
    """Everything below a folder, as root's, executable or not."""
    with _open(target) as layer:
        for path in sorted(folder.rglob("*")):
            member = layer.gettarinfo(str(path))
            member.uid = member.gid = 0
            member.mode = 0o755 if path.is_dir() or member.mode & 0o100 else 0o644
            data = io.BytesIO(path.read_bytes()) if member.isreg() else None
            _add(layer, path.relative_to(folder).as_posix(), member, data, epoch=epoch)


def _open(target: Path) -> tarfile.TarFile:
    return tarfile.open(target, "w", format=tarfile.PAX_FORMAT)


def _path(member: tarfile.TarInfo) -> str:
    return PurePosixPath(member.name).as_posix()


def _belongs(path: str) -> bool:
    if path == "." or path in _LEFT_OUT or PurePosixPath(path).name == "__pycache__":
        return False
    return (
        not any(path.startswith(f"{folder}/") for folder in _EMPTY) and "/__pycache__/" not in path
    )


def _add(
    layer: tarfile.TarFile,
    path: str,
    member: tarfile.TarInfo,
    data: IO[bytes] | None,
    *,
    epoch: int,
) -> None:
    member.name = path
    member.mtime = min(int(member.mtime), epoch)
    member.uname = member.gname = ""
    member.pax_headers = {}
    if member.islnk():
        member.linkname = PurePosixPath(member.linkname).as_posix()
    layer.addfile(member, data)
