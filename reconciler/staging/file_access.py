"""Rollouts of standalone mode: read from the state database, asked for by the rollout file.

In:   a state directory
Out:  RolloutAccess
Shell over both; the database is only read. A running reconciler watches the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from reconciler.rollout.machine import TAKEN_BACK
from reconciler.staging.access import Whereabouts
from reconciler.staging.entries import where
from reconciler.staging.interfaces import Request
from reconciler.staging.request_file import NAME, RolloutFile
from reconciler.staging.text import status_data
from reconciler.state import publications
from reconciler.state.database import Database
from reconciler.state.rollouts import Entry, RolloutStore

LOOK_SECONDS: Final = 0.1


class FileAccess:
    """One state directory; raises StalledError if no reconciler has run there."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._database = Database.open_read_only(state_dir)
        self._store = RolloutStore(self._database)

    @property
    def place(self) -> str:
        """The rollout file."""
        return str(self._state_dir / NAME)

    def whereabouts(self) -> Whereabouts:
        """What there is to act on."""
        current, stable = self._store.current(), self._stable()
        if current is None:
            return Whereabouts(stable=stable)
        return Whereabouts(
            current=current.revision,
            where=where(current),
            is_taken_back=current.phase in TAKEN_BACK,
            stable=stable,
        )

    def status(self) -> dict[str, Any]:
        """Everything about the current rollout."""
        current = self._store.current()
        if current is None:
            return {}
        stable = self._stable()
        enforced = self._store.sighting(stable)
        return status_data(
            current,
            self._store.sighting(current.revision),
            stable=stable,
            preview=enforced.preview if enforced else None,
            now=time.time(),
        )

    def history(self, entries: int) -> tuple[Entry, ...]:
        """What happened, the newest first."""
        return self._store.history(entries)

    def revisions(self) -> tuple[str, ...]:
        """The revisions that are kept whole."""
        return publications.revisions(self._database)

    def ask(self, request: Request, *, wait_seconds: float) -> str | None:
        """Write the request into the file, and wait until its status answers."""
        file = RolloutFile(self._state_dir)
        file.ask(request)
        return _wait(lambda: _answer(file, request), wait_seconds)

    def _stable(self) -> str:
        publication = publications.last_publication(self._database)
        return publication.revision if publication else ""


def _answer(file: RolloutFile, request: Request) -> str | None:
    held = file.read()
    is_handled = held.handled.get(request.action) == request.token
    return held.answers.get(request.action, "") if is_handled else None


def _wait(look: Callable[[], str | None], seconds: float) -> str | None:
    end = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    return found
