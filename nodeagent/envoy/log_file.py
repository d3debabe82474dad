"""Read the file that Envoy appends its access log to, and have it begin a new one before it grows large.

In:   the file's path
Out:  whole lines; whether Envoy is to be asked to open its file anew
Shell over two files: the one Envoy is told of, and the one before it.

       Envoy ──▶ requests.log ─ renamed at TURN_OVER_BYTES ─▶ requests.log.1 ─ read to its end ─▶ gone

Holds always:
1. A file is left, and removed, only when Envoy writes to its successor, and after its last line was read.
2. There are two at most, and Envoy cannot make either longer than `process.MAX_FILE_BYTES`.
3. What was written before anybody read is told by nobody; a line torn there, or by an end, is skipped.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

TURN_OVER_BYTES: Final = 8 << 20
READ_BYTES: Final = 256 << 10
"""Of one read: some hundred entries."""
MAX_LINE_BYTES: Final = 1 << 20
"""More than any entry has: headers are 60 KiB at most, and a byte is told with six at most."""
_LINE_END: Final = b"\n"


class LogFile:
    """One reader of one Envoy's log."""

    def __init__(self, path: Path) -> None:
        """Read on from the end of what is there."""
        self._path = path
        self._before = path.with_name(f"{path.name}.1")
        self._file = -1
        self._rest = b""
        self._skips = False
        """The line that is read now has no beginning, or is too long."""
        if path.exists():
            self._before.unlink(missing_ok=True)
        if not self._opened(path) and not self._opened(self._before):
            return
        end = os.lseek(self._file, 0, os.SEEK_END)
        self._skips = end > 0 and os.pread(self._file, 1, end - 1) != _LINE_END

    def close(self) -> None:
        """Read no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def read(self) -> bytes | None:
        """The next whole lines, perhaps none; None: all that there is has been read."""
        if self._file < 0 and not self._opened(self._path):
            return None
        # Asked first: what Envoy wrote here before it began the next file is in this read.
        is_left = self._is_left()
        data = os.read(self._file, READ_BYTES)
        if data:
            return self._whole_lines(data)
        if not is_left:
            return None
        self._leave()
        return b""

    def turn_over(self) -> bool:
        """Put a long file aside; True if Envoy is to be asked to begin a new one, again if need be."""
        if self._file < 0:
            return False
        try:
            at_path = self._path.stat()
        except FileNotFoundError:
            return True
        own = os.fstat(self._file)
        if not os.path.samestat(own, at_path) or own.st_size < TURN_OVER_BYTES:
            return False
        self._path.rename(self._before)
        return True

    def _opened(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._file >= 0

    def _is_left(self) -> bool:
        """True if Envoy writes to another file: it closes one before it opens the next."""
        try:
            return not os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def _leave(self) -> None:
        self.close()
        self._before.unlink(missing_ok=True)
        self._rest, self._skips = b"", False

    def _whole_lines(self, data: bytes) -> bytes:
        if self._skips:
            _, end, data = data.partition(_LINE_END)
            self._skips = not end
        lines, end, self._rest = (self._rest + data).rpartition(_LINE_END)
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._skips = b"", True
        return lines + end
