"""The ring of events, mapped: records are copied out in runs, not called back one by one.

In:   the pinned ring, and its bell
Out:  bytes: whole records, each with its number before it, oldest first
Shell over the mapped pages. One reader a ring: what is taken is gone.

    programs: begun + 1 ──▶ record written ──▶ its number ──▶ awaited? ring the bell
    agent:    numbers in turn? ──▶ copied ──▶ taken      nothing there ──▶ awaited, looked again ──▶ sleep

Holds always:
1. A record is copied only after it bears its number, and given back only after it is copied.
2. Who took nothing is woken by the next event.
"""

from __future__ import annotations

import mmap
import threading
from ctypes import sizeof
from typing import Final

from nodeagent.datapath.abi import EventRecord, EventRing
from nodeagent.datapath.abi_numbers import EVENT_RECORDS, EVENT_RECORDS_SPARE
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map

RECORD_BYTES: Final = sizeof(EventRecord)
HEADER_BYTES: Final = EventRecord.event.offset
"""The record's number."""

_WORD_BYTES: Final = 8
_BEGUN: Final = EventRing.begun.offset // _WORD_BYTES
_TAKEN: Final = EventRing.taken.offset // _WORD_BYTES
_AWAITED: Final = EventRing.is_awaited.offset // _WORD_BYTES
_RECORD_WORDS: Final = RECORD_BYTES // _WORD_BYTES
_FIRST_RECORD: Final = EventRing.records.offset // _WORD_BYTES


class MappedRing:
    """Takes whole records. `fd` is readable once something came after nothing was there to take."""

    room: Final = EVENT_RECORDS - EVENT_RECORDS_SPARE

    def __init__(self, events: Map, bell: Map) -> None:
        self.fd: Final = bell.fd
        self._fence = threading.Lock()
        try:
            self._pages = mmap.mmap(events.fd, _whole_pages(sizeof(EventRing)))
            self._heard = mmap.mmap(bell.fd, mmap.PAGESIZE)
            self._rung = mmap.mmap(
                bell.fd, mmap.PAGESIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE
            )
        except OSError as error:
            raise DatapathError("mapping the event ring", errno=error.errno or 0) from error
        # Words are read and written whole: the programs do so at the same time.
        self._words = memoryview(self._pages).cast("Q")

    def take(self, limit: int) -> bytes:
        """Copy at most so many records out, and give their room back."""
        return self._take(limit) or self._look_again(limit)

    def close(self) -> None:
        """Unmap the ring."""
        self._words.release()
        for pages in (self._pages, self._heard, self._rung):
            pages.close()

    def _look_again(self, limit: int) -> bytes:
        """Ask to be woken. What came before the programs could know of that is taken now."""
        with memoryview(self._heard).cast("Q") as heard, memoryview(self._rung).cast("Q") as rung:
            heard[0] = rung[0]
        self._words[_AWAITED] = 1
        self._in_order()
        return self._take(limit)

    def _take(self, limit: int) -> bytes:
        taken = self._words[_TAKEN]
        count = min(self._words[_BEGUN] - taken, limit)
        if count <= 0:
            return b""
        self._in_order()
        runs = runs_of(taken, count)
        numbers = [number for run in runs for number in self._numbers(run)]
        whole = whole_records(numbers, after=taken)
        self._in_order()
        records = b"".join(self._records(run) for run in runs_of(taken, whole))
        self._in_order()
        self._words[_TAKEN] = taken + whole
        return records

    def _numbers(self, run: range) -> list[int]:
        start, end = (_FIRST_RECORD + at * _RECORD_WORDS for at in (run.start, run.stop))
        return self._words[start:end:_RECORD_WORDS].tolist()

    def _records(self, run: range) -> bytes:
        start, end = (_FIRST_RECORD + at * _RECORD_WORDS for at in (run.start, run.stop))
        return self._pages[start * _WORD_BYTES : end * _WORD_BYTES]

    def _in_order(self) -> None:
        """Let no load or store pass those before it.

        A lock given back and taken again keeps that order.
        """
        with self._fence:
            pass
        with self._fence:
            pass


def runs_of(taken: int, count: int) -> tuple[range, ...]:
    """Where the next records lie: one run, or two if the ring ends between them."""
    start = taken % EVENT_RECORDS
    end = start + count
    if end <= EVENT_RECORDS:
        return (range(start, end),)
    return range(start, EVENT_RECORDS), range(end - EVENT_RECORDS)


def whole_records(numbers: list[int], *, after: int) -> int:
    """How many records from the first on bear the numbers that follow `after`."""
    wanted = list(range(after + 1, after + 1 + len(numbers)))
    if numbers == wanted:
        return len(numbers)
    pairs = zip(numbers, wanted, strict=True)
    return next(index for index, (number, due) in enumerate(pairs) if number != due)


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
