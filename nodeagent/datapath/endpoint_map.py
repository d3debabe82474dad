"""Interface index → endpoint, in two arrays that a program reads without a call into a hash map.

    interfaces   groups of words {interface, slot}; an interface is in the group of its index
    endpoints    slot → endpoint

In:   an interface's index, the bytes of an endpoint
Out:  the same, as a hash map would hold them
Shell over the two maps. One writer.

Holds always:
1. A slot's bytes are whole before a word names it, and a change takes a fresh slot: no packet meets
   half an endpoint.
2. A word is stored at once: the interface is there with its slot, or not at all.
3. A slot that was given up is the last to be used again.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from array import array
from collections.abc import Iterator
from errno import E2BIG
from struct import Struct
from typing import Final

from nodeagent.datapath import abi_numbers, libbpf
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map

_SLOT_KEY: Final = Struct("=I")
_WORD: Final = Struct("=II")
"""`struct tg_interface`."""
_EMPTY: Final = 0


class EndpointMap:
    """The two maps as one."""

    def __init__(self, interfaces: Map, endpoints: Map) -> None:
        self._endpoints = endpoints
        size = interfaces.max_entries * interfaces.value_bytes
        try:
            self._pages = mmap.mmap(interfaces.fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        except OSError as error:
            raise DatapathError("mapping interfaces", errno=error.errno or 0) from error
        words = interfaces.max_entries * abi_numbers.INTERFACES_PER_GROUP
        self._words: ctypes.Array[ctypes.c_uint64] | None = (ctypes.c_uint64 * words).from_buffer(
            self._pages
        )
        self._groups = interfaces.max_entries

    def put(self, interface: int, value: bytes) -> None:
        """Say who is behind an interface. Raises DatapathError (E2BIG) if there is no room."""
        at, held = self._find(interface)
        if held is None or self._read(held) != value:
            slot = self._fresh_slot(held)
            if at is None or slot is None:
                raise DatapathError("writing to map endpoints", errno=E2BIG)
            libbpf.update(self._endpoints, _SLOT_KEY.pack(slot), value)
            self._mapped()[at] = _word(interface, slot)
        self._clear(interface, but=at)

    def remove(self, interface: int) -> None:
        """Say that nobody is behind an interface."""
        self._clear(interface)

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Every interface with its endpoint's bytes."""
        for interface, slot in self._held():
            yield interface, self._read(slot)

    def close(self) -> None:
        """Unmap the words."""
        self._words = None
        self._pages.close()

    def _clear(self, interface: int, *, but: int | None = None) -> None:
        """Remove the words of an interface: one, unless somebody else wrote a second."""
        words = self._mapped()
        for at in self._group(interface):
            if at != but and _parts(words[at])[0] == interface:
                words[at] = _EMPTY

    def _group(self, interface: int) -> range:
        first = interface % self._groups * abi_numbers.INTERFACES_PER_GROUP
        return range(first, first + abi_numbers.INTERFACES_PER_GROUP)

    def _find(self, interface: int) -> tuple[int | None, int | None]:
        """The place of an interface's word and its slot; else a place that is free, if any is."""
        words = self._mapped()
        free = None
        for at in self._group(interface):
            found, slot = _parts(words[at])
            if found == interface:
                return at, slot
            if found == 0 and free is None:
                free = at
        return free, None

    def _fresh_slot(self, held: int | None) -> int | None:
        """A slot that no word names: the next one behind that which is given up, or behind all."""
        used = {slot for _, slot in self._held()}
        room = self._endpoints.max_entries
        start = max(used, default=-1) + 1 if held is None else held + 1
        turns = (at % room for at in range(start, start + room))
        return next((slot for slot in turns if slot not in used), None)

    def _held(self) -> Iterator[tuple[int, int]]:
        words = array("Q", filter(None, array("Q", bytes(self._mapped()))))
        return _WORD.iter_unpack(words.tobytes())

    def _read(self, slot: int) -> bytes:
        return libbpf.lookup(self._endpoints, _SLOT_KEY.pack(slot)) or b""

    def _mapped(self) -> ctypes.Array[ctypes.c_uint64]:
        if self._words is None:
            raise DatapathError("the datapath is closed")
        return self._words


def _word(interface: int, slot: int) -> int:
    return int.from_bytes(_WORD.pack(interface, slot), sys.byteorder)


def _parts(word: int) -> tuple[int, int]:
    """Interface (zero: none) and slot."""
    interface, slot = _WORD.unpack(word.to_bytes(_WORD.size, sys.byteorder))
    return interface, slot
