"""The repository that is followed now, and the change to another one between two passes.

In:   Following values, at any time
Out:  the GitSource of the one in force
Shell over one Git source.

Holds always:
1. What is followed changes between passes, never in the middle of one.
"""

from __future__ import annotations

from pathlib import Path

from reconciler.source import GitSource
from reconciler.surroundings import Following


class Followed:
    """One source at a time, in one directory."""

    def __init__(self, directory: Path, following: Following | None) -> None:
        self._directory = directory
        self._wanted = following
        self._in_force: Following | None = None
        self._source: GitSource | None = None

    @property
    def wanted(self) -> Following | None:
        """What the next pass follows; None: nothing is known to follow."""
        return self._wanted

    def want(self, following: Following) -> None:
        """Follow this from the next pass on."""
        self._wanted = following

    def turn(self) -> bool:
        """Take over what is wanted; True if that is another thing than before."""
        before, self._in_force = self._in_force, self._wanted
        if before == self._in_force:
            return False
        if self._source is None or before is None or self._is_elsewhere(before):
            self.close()
            if self._in_force is not None:
                self._source = GitSource(self._in_force.repository, self._directory)
        return True

    @property
    def has_source(self) -> bool:
        """True once something was taken over."""
        return self._source is not None

    @property
    def source(self) -> GitSource:
        """The source in force; there is one once something was wanted and taken over."""
        assert self._source is not None
        return self._source

    def close(self) -> None:
        """End what the source runs."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _is_elsewhere(self, before: Following) -> bool:
        return self._in_force is None or self._in_force.repository != before.repository
