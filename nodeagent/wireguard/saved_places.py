"""What a strict node must go on refusing when it starts anew: where pods were, kept on the disk.

In:   places by CIDR
Out:  the same, after a restart of the whole machine
Shell over one file, replaced by rename.

Holds always:
1. No file: the node was not strict. A file that cannot be read is raised, never taken for none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from netpolicy.durable_files import DiskFiles
from nodeagent.plan.places import Place

FILE: Final = "strict-places.json"
MAX_BYTES: Final = 256 * 1024 * 1024


class SavedPlaces:
    """The file. One caller at a time."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._files = DiskFiles()
        self._kept: Mapping[str, Place] | None = None

    def load(self) -> dict[str, Place] | None:
        """The places of a node that was strict; None: it was not. Raises OSError or ValueError."""
        try:
            found = json.loads(self._files.read(self.path, max_bytes=MAX_BYTES))
        except FileNotFoundError:
            return None
        return {cidr: Place(number) for cidr, number in found.items()}

    def keep(self, places: Mapping[str, Place] | None) -> None:
        """Have these found by the next start; None: nothing. Raises OSError if they cannot be kept."""
        if places is None:
            self.path.unlink(missing_ok=True)
        elif places != self._kept:
            following = self.path.with_suffix(".new")
            self._files.write(following, json.dumps(places, sort_keys=True).encode())
            self._files.rename(following, self.path)
        self._kept = None if places is None else dict(places)
