"""Keep the proxy's ports over restarts of the agent: a set on another port costs its connections.

In:   Listeners
Out:  a file; from it, seats without listeners
Shell over one file. What cannot be read is nothing: every set then gets a new port.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from netpolicy.durable_files import replace
from nodeagent.l7.listeners import NO_LISTENERS, Listeners, Seat

FILE: Final = "proxy-ports.json"
MAX_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    seats: tuple[Seat, ...]
    left: tuple[int, ...]


class SavedSeats:
    """The file. One caller at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._kept: _Saved | None = None

    def load(self) -> Listeners:
        """The seats of the process before. Raises OSError or ValueError if there are some, unreadable."""
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_BYTES)
        except FileNotFoundError:
            return NO_LISTENERS
        found = msgspec.json.decode(data, type=_Saved)
        return Listeners(seats=found.seats, left=found.left)

    def keep(self, listeners: Listeners) -> None:
        """Have these found by the next start. Raises OSError if they cannot be kept."""
        saved = _Saved(seats=listeners.seats, left=listeners.left)
        if saved == self._kept or (self._kept is None and not saved.seats and not saved.left):
            return
        replace(self.path, msgspec.json.encode(saved))
        self._kept = saved
