"""The control word: which generation every packet is judged by.

In:   the mapping of the pinned map
Out:  Control values; one 8-byte store for each change
Shell over one page of memory.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Set
from dataclasses import dataclass, replace

from netpolicy.evidence import Shadow
from nodeagent.datapath import abi, abi_numbers
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map

_REVISION_LIMIT = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What is in force. Slots are None where there is none; `previous` is kept for a rollback."""

    revision: int
    active: int | None = None
    candidate: int | None = None
    preview: int | None = None
    previous: int | None = None

    def activated(self, slot: int) -> Control:
        """The word that puts a slot in force. What is in force is nobody's shadow any more."""
        return replace(
            self.bumped(),
            active=slot,
            candidate=self.candidate if self.candidate != slot else None,
            preview=self.preview if self.preview != slot else None,
            previous=self.active if self.active != slot else self.previous,
        )

    def shadowed(self, *, candidate: int | None, preview: int | None) -> Control:
        """The word that has every flow judged under these slots too, from its next packet on."""
        return replace(self.bumped(), candidate=candidate, preview=preview)

    def slot_of(self, shadow: Shadow) -> int | None:
        """The slot of a shadow, if it is set."""
        return self.candidate if shadow is Shadow.CANDIDATE else self.preview

    def without(self, slots: Set[int]) -> Control:
        """The word that names none of these beside the active slot."""
        return replace(
            self.bumped(),
            candidate=None if self.candidate in slots else self.candidate,
            preview=None if self.preview in slots else self.preview,
            previous=None if self.previous in slots else self.previous,
        )

    def bumped(self) -> Control:
        """The word that has every flow judged again."""
        return replace(self, revision=(self.revision + 1) % _REVISION_LIMIT)

    def spare_slot(self, *, keep: Set[int] = frozenset()) -> int:
        """A slot that no packet and no rollback reads, and that is not to be kept."""
        taken = {self.active, self.candidate, self.preview, self.previous, *keep}
        spare = next((slot for slot in range(abi_numbers.SLOTS) if slot not in taken), None)
        if spare is None:
            raise DatapathError("every slot for a generation is taken")
        return spare


class ControlWord:
    """The mapped word. A load and a store are one machine word each."""

    def __init__(self, control: Map) -> None:
        try:
            self._page = mmap.mmap(control.fd, mmap.PAGESIZE)
        except OSError as error:
            raise DatapathError("mapping the control word", errno=error.errno or 0) from error
        self._word: ctypes.c_uint64 | None = ctypes.c_uint64.from_buffer(self._page)

    def load(self) -> Control:
        """What is in force now."""
        word = abi.Control.from_buffer_copy(ctypes.c_uint64(self._mapped().value))
        return Control(
            revision=word.revision,
            active=_slot(word.active),
            candidate=_slot(word.candidate),
            preview=_slot(word.preview),
            previous=_slot(word.previous),
        )

    def store(self, control: Control) -> None:
        """Put it in force."""
        word = abi.Control(
            revision=control.revision,
            active=_byte(control.active),
            candidate=_byte(control.candidate),
            preview=_byte(control.preview),
            previous=_byte(control.previous),
        )
        self._mapped().value = ctypes.c_uint64.from_buffer_copy(word).value

    def close(self) -> None:
        """Unmap the page."""
        self._word = None
        self._page.close()

    def _mapped(self) -> ctypes.c_uint64:
        if self._word is None:
            raise DatapathError("the datapath is closed")
        return self._word


def _slot(byte: int) -> int | None:
    return None if byte == abi_numbers.NO_SLOT else byte


def _byte(slot: int | None) -> int:
    return abi_numbers.NO_SLOT if slot is None else slot
