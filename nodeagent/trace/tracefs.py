"""The kernel's tracing files, mounted for this process alone where the node has not.

Out:  the text of a tracepoint's format file, or Missing
A shell: one private mount namespace, one mount; both end with the process.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from nodeagent.trace.missing import Missing

PLACES: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))

_CLONE_NEWNS: Final = 0x00020000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18


def read_formats(tracepoints: Iterable[str]) -> dict[str, str] | Missing:
    """The format file of each tracepoint, such as `skb:kfree_skb`, or the first that is missing."""
    texts = {}
    for tracepoint in tracepoints:
        text = read_format(tracepoint.replace(":", "/"))
        if isinstance(text, Missing):
            return text
        texts[tracepoint] = text
    return texts


def read_format(event: str) -> str | Missing:
    """The format file of an event such as `skb/kfree_skb`."""
    if not any((place / "events").is_dir() for place in PLACES):
        try:
            _mount_privately(PLACES[0])
        except OSError as error:
            return Missing(
                what=f"tracefs, which is not mounted, nor can be: {os.strerror(error.errno or 0)}",
                fix=f"mount -t tracefs tracefs {PLACES[0]} (the kernel needs CONFIG_EVENT_TRACING)",
            )
    for place in PLACES:
        if (path := place / "events" / event / "format").is_file():
            return path.read_text()
    return Missing(
        what=f"the tracepoint {event.replace('/', ':')}, which this kernel does not have",
        fix="a kernel of version 5.17 or later, with CONFIG_EVENT_TRACING and CONFIG_NET",
    )


def _mount_privately(place: Path) -> None:
    """Mount tracefs where no other process sees it; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(_CLONE_NEWNS))
    _check(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None))
    _check(libc.mount(b"tracefs", bytes(place), b"tracefs", ctypes.c_ulong(0), None))


def _check(outcome: int) -> None:
    if outcome:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
