"""Files that survive a kill and a power loss: whole, private, and never larger than expected.

In:   paths, bytes
Out:  files; their content; OSError that says which file
Shell over the file system.

Holds always:
1. `replace` and `DiskFiles.rename` put content in place in one step: who looks sees the old or the new.
2. What returned is on the disk, the folder's entry too.
3. No more is read than was allowed.
"""

from __future__ import annotations

import os
from errno import EFBIG
from pathlib import Path
from typing import Final, Protocol

SECRET_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644
FOLDER_MODE: Final = 0o700


class Files(Protocol):
    """The few operations that keeping a file takes; tests break each of them in turn."""

    def read(self, path: Path, *, max_bytes: int) -> bytes:
        """The file's content; raises FileNotFoundError, or OSError if it is larger."""

    def write(self, path: Path, data: bytes) -> None:
        """Make the content of a file and see it through to the disk."""

    def rename(self, source: Path, target: Path) -> None:
        """Put a file in another's place, in one step that survives a power loss."""


class DiskFiles:
    """The real disk."""

    def read(self, path: Path, *, max_bytes: int) -> bytes:
        """Read no more than allowed."""
        return read_bounded(path, max_bytes=max_bytes)

    def write(self, path: Path, data: bytes) -> None:
        """Write, flush and fsync; a failure leaves a file that nobody reads."""
        make_folder(path.parent)
        _write(path, data, os.O_TRUNC, SECRET_MODE)

    def rename(self, source: Path, target: Path) -> None:
        """Rename and fsync the folder."""
        source.replace(target)
        sync_folder(target.parent)


def read_bounded(path: Path, *, max_bytes: int) -> bytes:
    """The file's content; raises OSError if it is larger than that."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(EFBIG, f"larger than {max_bytes} bytes", str(path))
    return data


def write_new(path: Path, data: bytes, *, mode: int = SECRET_MODE) -> None:
    """Create a file with its final mode; raises FileExistsError rather than overwrite."""
    _write(path, data, os.O_EXCL, mode)
    sync_folder(path.parent)


def replace(path: Path, data: bytes, *, mode: int = SECRET_MODE) -> None:
    """Put new content in place of old in one step."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    _write(beside, data, os.O_EXCL, mode)
    beside.replace(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder that only its owner may enter, and those above it that are missing."""
    if not path.parent.exists():
        make_folder(path.parent)
    path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Make what was created and renamed in a folder survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, how: int, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(descriptor)
