"""The kernel's ring buffer, mapped: records are copied out in runs, not called back one by one.

In:   the pinned ring buffer, whose records are all of one size
Out:  bytes: whole records, each with its eight-byte header, oldest first
Shell over the mapped pages. One reader a ring: what is taken is gone.

    consumer page (ours to write) │ producer page │ data │ the same data again

Holds always:
1. A record is copied only after the kernel has committed it, and given back only after it is copied.
2. A record of another size ends the reading with an error: what follows could not be trusted.
"""

from __future__ import annotations

import mmap
import struct
import threading
from collections.abc import Sequence
from typing import Final

from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map

HEADER_BYTES: Final = 8
BUSY: Final = 1 << 31
"""The program has not committed the record yet (BPF_RINGBUF_BUSY_BIT)."""
DISCARDED: Final = 1 << 30
"""The program thought better of it (BPF_RINGBUF_DISCARD_BIT)."""

_WORD: Final = struct.Struct("=Q")
_LENGTH_BYTES: Final = 4


class EventRing:
    """Takes committed records. `fd` is readable while there are any."""

    def __init__(self, events: Map, record_bytes: int) -> None:
        self.fd: Final = events.fd
        self.ring_bytes: Final = events.max_entries
        self._payload_bytes = record_bytes
        self._stride = stride_of(record_bytes)
        self._fence = threading.Lock()
        try:
            self._consumer = mmap.mmap(events.fd, mmap.PAGESIZE)
            self._pages = mmap.mmap(
                events.fd,
                mmap.PAGESIZE + 2 * self.ring_bytes,
                prot=mmap.PROT_READ,
                offset=mmap.PAGESIZE,
            )
        except OSError as error:
            raise DatapathError("mapping the event ring", errno=error.errno or 0) from error

    def take(self, limit: int) -> bytes:
        """Copy at most so many committed records out, and give their room back."""
        (start,) = _WORD.unpack_from(self._consumer)
        (end,) = _WORD.unpack_from(self._pages)
        count = min((end - start) // self._stride, limit)
        if not count:
            return b""
        at = mmap.PAGESIZE + start % self.ring_bytes
        self._in_order()
        lengths = self._lengths(at, count)
        whole = committed(lengths, self._payload_bytes)
        self._in_order()
        records = self._pages[at : at + whole * self._stride]
        self._in_order()
        _WORD.pack_into(self._consumer, 0, start + whole * self._stride)
        return without_discarded(records, lengths[:whole], self._stride)

    def close(self) -> None:
        """Unmap the ring."""
        self._consumer.close()
        self._pages.close()

    def _lengths(self, at: int, count: int) -> list[int]:
        """The length words of records that follow each other."""
        with (
            memoryview(self._pages) as pages,
            pages[at : at + count * self._stride].cast("I") as words,
        ):
            return words[:: self._stride // _LENGTH_BYTES].tolist()

    def _in_order(self) -> None:
        """Let no load pass the ones before it, nor the store that gives room back.

        x86 keeps that order by itself. Elsewhere a lock given back and taken again keeps it.
        """
        with self._fence:
            pass
        with self._fence:
            pass


def stride_of(record_bytes: int) -> int:
    """From the start of a record to that of the next."""
    return HEADER_BYTES + -(-record_bytes // 8) * 8


def committed(lengths: Sequence[int], record_bytes: int) -> int:
    """How many records from the first on are committed. DatapathError for one of another size."""
    if lengths.count(record_bytes) == len(lengths):
        return len(lengths)
    for index, length in enumerate(lengths):
        if length & BUSY:
            return index
        if length & ~DISCARDED != record_bytes:
            raise DatapathError(f"the event ring holds a record of {length & ~DISCARDED} bytes")
    return len(lengths)


def without_discarded(records: bytes, lengths: Sequence[int], stride: int) -> bytes:
    """The records that a program did not discard."""
    if not any(length & DISCARDED for length in lengths):
        return records
    return b"".join(
        records[index * stride : (index + 1) * stride]
        for index, length in enumerate(lengths)
        if not length & DISCARDED
    )
