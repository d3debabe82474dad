"""The few file operations that keeping a bundle takes; tests break each of them in turn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """A place to keep files that must survive a kill and a power loss."""

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
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise OSError(f"{path} is larger than {max_bytes} bytes")
        return data

    def write(self, path: Path, data: bytes) -> None:
        """Write, flush and fsync; a failure leaves a file that nobody reads."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Rename and fsync the folder."""
        source.replace(target)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
