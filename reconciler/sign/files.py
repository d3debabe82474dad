"""Write secrets and certificates: private, whole, and never over something else.

Shell over the file system.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SECRET_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o700


def make_directory(path: Path) -> None:
    """Create a directory that only its owner may enter, and those above it that are missing."""
    if not path.parent.exists():
        make_directory(path.parent)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def write_new(path: Path, data: bytes, *, secret: bool) -> None:
    """Create a file with its final mode; raises FileExistsError rather than overwrite."""
    mode = SECRET_MODE if secret else PUBLIC_MODE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)


def replace(path: Path, data: bytes, *, secret: bool) -> None:
    """Put new content in place of old in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    write_new(temporary, data, secret=secret)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in a directory survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
