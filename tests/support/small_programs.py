"""The least of tc programs: loaded from two instructions, under any name.

In:   a name, what the program says of every packet
Out:  a descriptor, for as long as the context lasts
Shell over libbpf.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from nodeagent.datapath import libbpf

_SCHED_CLS: Final = 3
_INSTRUCTION: Final = struct.Struct("=BBhi")
_RETURN_VALUE: Final = 0xB7
_EXIT: Final = 0x95


class Says(IntEnum):
    """`enum tcx_action_base`."""

    NEXT = -1
    PASS = 0
    DROP = 2


@contextmanager
def small_program(name: str, says: Says) -> Iterator[int]:
    """Load it. What is attached outlives the context."""
    code = _INSTRUCTION.pack(_RETURN_VALUE, 0, 0, says) + _INSTRUCTION.pack(_EXIT, 0, 0, 0)
    fd = libbpf.check(
        libbpf.library().bpf_prog_load(
            _SCHED_CLS, name.encode(), b"GPL", code, ctypes.c_size_t(2), None
        ),
        f"loading {name}",
    )
    try:
        yield fd
    finally:
        os.close(fd)
