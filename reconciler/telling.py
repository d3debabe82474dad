"""Say how things stand, where everybody looks: as conditions in the state database.

In:   what came of each pass; where the rollout is
Out:  conditions, dated; a call to whoever shows them elsewhere
Shell over the state database.

Holds always:
1. What a failed pass said stays said until a pass comes through.
2. Conditions that cannot be saved fail nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from netpolicy.errors import TransientError
from netpolicy.status import Condition
from reconciler import conditions
from reconciler.state import fleet
from reconciler.state.database import Database

log = structlog.get_logger()


class Telling:
    """The last word on how things stand."""

    def __init__(
        self,
        database: Database,
        *,
        outcome: Callable[[], tuple[Condition, ...]],
        changed: Callable[[], None],
    ) -> None:
        """`outcome`: what is to be said where no pass failed."""
        self._database = database
        self._outcome = outcome
        self._changed = changed
        self._trouble: tuple[Condition, ...] = ()

    def fail(self, said: tuple[Condition, ...]) -> None:
        """A pass failed; this is said until one comes through."""
        self._trouble = said
        self.say(said)

    def succeed(self) -> None:
        """A pass came through."""
        self._trouble = ()

    def say_outcome(self) -> None:
        """Something may have moved."""
        self._changed()
        self.say(self._trouble or self._outcome())

    def say(self, said: tuple[Condition, ...]) -> None:
        """Say this, unless it was said last."""
        before = fleet.conditions(self._database)
        dated = conditions.with_times(said, before, now=time.time())
        if set(dated) == set(before):
            return
        try:
            fleet.save_conditions(self._database, dated)
        except TransientError as error:
            log.error("conditions_not_saved", error=str(error))
        self._changed()
