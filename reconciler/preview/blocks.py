"""An export's bytes, cut into blocks of whole lines that several processes take in turns.

In:   a file: plain, packed by gzip, or a pipe
Out:  numbered blocks
Shell over the file.

A plain file is read at several places at once. What can only be read from its beginning one process reads,
and hands blocks to the others through a pipe.

Holds always:
1. Every line is in exactly one block; blocks are numbered in the order of the file.
2. A line without an end, or a packed file without its own, is an error: StalledError.
"""

from __future__ import annotations

import gzip
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from netpolicy.errors import StalledError
from reconciler.preview.workers import context

BLOCK_BYTES: Final = 128 << 10
"""Lines of one block are decoded together: as many as stay in a processor's cache."""
TURN_BYTES: Final = 4 << 20
MAX_LINE_BYTES: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_END: Final = b""

Block = tuple[int, bytes]


class PlainFile:
    """A regular file that any process can read anywhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size
        self._next = context().Value("q", 0)

    @property
    def turns(self) -> int:
        """How often somebody can take some of it; at least once."""
        return max(1, -(-self.size // TURN_BYTES))

    @property
    def done(self) -> int:
        """Bytes that somebody has taken on."""
        return min(self.size, int(self._next.value) * TURN_BYTES)

    def blocks(self) -> Iterator[Block]:
        """What this process takes, until nothing is left."""
        with self._path.open("rb") as file:
            while (start := self._turn() * TURN_BYTES) < self.size:
                for block in lines_between(file, start, start + TURN_BYTES):
                    yield start, block

    def _turn(self) -> int:
        with self._next.get_lock():
            turn = self._next.value
            self._next.value += 1
        return int(turn)


class Stream:
    """What is read once, from its beginning, by one process for all."""

    def __init__(self, path: Path, *, size: int, is_packed: bool) -> None:
        self._path, self._is_packed = path, is_packed
        self.size = size
        self._read = context().Value("q", 0)
        self._turn = context().Value("q", 0)
        self._taken, self._given = context().Pipe(duplex=False)

    @property
    def done(self) -> int:
        """Bytes of the file that were read."""
        return int(self._read.value)

    def give(self, takers: int) -> None:
        """Read it all, for so many who take."""
        with self._path.open("rb") as file:
            for block in self._unpacked(file) if self._is_packed else lines_of(file):
                self._given.send_bytes(block)
                if self.size:
                    self._read.value = file.tell()
        for _ in range(takers):
            self._given.send_bytes(_END)

    def blocks(self) -> Iterator[Block]:
        """What this process takes, until nothing is left."""
        while True:
            with self._turn.get_lock():
                block = self._taken.recv_bytes()
                turn = self._turn.value
                self._turn.value += 1
            if block == _END:
                return
            yield turn, block

    def _unpacked(self, file: BinaryIO) -> Iterator[bytes]:
        try:
            with gzip.GzipFile(fileobj=file) as plain:
                yield from lines_of(plain)  # type: ignore[arg-type]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise StalledError("it ends, or breaks, in the middle of what gzip packed") from error


def open_export(path: Path) -> PlainFile | Stream:
    """Raises OSError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        return Stream(path, size=0, is_packed=False)
    with path.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
    if is_packed:
        return Stream(path, size=found.st_size, is_packed=True)
    return PlainFile(path)


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Whole lines, to the end."""
    while block := file.read(BLOCK_BYTES):
        yield block if block.endswith(b"\n") else block + _rest_of_line(file)


def lines_between(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The lines that begin at `start` or later, and before `end`."""
    at = max(0, start - 1)
    file.seek(at)
    if start:
        at += len(_rest_of_line(file))
    while at < end:
        block = file.read(min(BLOCK_BYTES, end - at))
        if not block:
            return
        if not block.endswith(b"\n"):
            block += _rest_of_line(file)
        at += len(block)
        yield block


def _rest_of_line(file: BinaryIO) -> bytes:
    rest = file.readline(MAX_LINE_BYTES)
    if len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
        raise StalledError(f"a line of the export is longer than {MAX_LINE_BYTES} bytes")
    return rest
