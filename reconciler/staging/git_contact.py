"""Remember what fetches came to: the evidence that the reconciler's own way to Git is open.

In:   fetches, as they begin and end
Out:  Contact; whether Git was failing is saved, so that a restart in the middle of a flip knows
Shell over the clock and one value in the state database.

Holds always:
1. A fetch that Git refused was answered: whatever is wrong, the way to it is open.
2. A value that cannot be saved is kept in memory and logged; no fetch fails for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from netpolicy.errors import StalledError, TransientError
from reconciler.rollout.lifeline import Contact, begun, ended
from reconciler.state.rollouts import RolloutStore

log = structlog.get_logger()


class GitContact:
    """The last word on the way to Git."""

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self.contact = Contact(failing_since=store.git_failing_since())

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Around one fetch; its errors pass through."""
        self.contact = begun(self.contact, now=time.time())
        try:
            yield
        except TransientError:
            self._end(answered=False)
            raise
        except StalledError:
            self._end(answered=True)
            raise
        self._end(answered=True)

    def _end(self, *, answered: bool) -> None:
        before = self.contact
        self.contact = ended(before, answered=answered, now=time.time())
        if self.contact.failing_since == before.failing_since:
            return
        try:
            self._store.save_git_failing_since(self.contact.failing_since)
        except TransientError as error:
            log.error("git_contact_not_saved", error=str(error))
