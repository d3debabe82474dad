"""What needs a person although the last good policy stays in force.

In:   the bundle that is held, the state of its store, the last trial, the time
Out:  alarms; a line in the log when metadata expires
Shell over the clock.

Holds always:
1. A clock that went back brings nothing to life again: time is never less than when the bundle was stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from nodeagent.receive.config import EXPIRY_CHECK_SECONDS
from nodeagent.receive.store import HeldBundle
from nodeagent.rollout.confirm import Stage, Trial

log = structlog.get_logger()

METADATA_EXPIRED: Final = "metadata_expired"


class Expiry:
    """Whether the metadata of what is held has expired."""

    def __init__(
        self, held: Callable[[], HeldBundle | None], *, clock: Callable[[], float]
    ) -> None:
        self._held = held
        self._clock = clock

    @property
    def is_expired(self) -> bool:
        """True if nothing fresh was heard for as long as the signatures are good."""
        held = self._held()
        if held is None:
            return False
        now = max(self._clock(), held.stored.clock_floor)
        return held.signed.expires <= datetime.fromtimestamp(now, UTC)

    async def watch(self) -> None:
        """Say once when it expires, until cancelled."""
        was_expired = False
        while True:
            is_expired, held = self.is_expired, self._held()
            if is_expired and not was_expired:
                log.error(METADATA_EXPIRED, sequence=held.channels.sequence if held else 0)
            was_expired = is_expired
            await asyncio.sleep(EXPIRY_CHECK_SECONDS)


def alarms_of(*, damage: str, trial: Trial, is_expired: bool) -> tuple[str, ...]:
    """What needs a person now."""
    alarms = []
    if damage:
        alarms.append(f"the stored bundle is damaged: {damage}")
    if trial.stage is Stage.REVERTED:
        alarms.append(
            f"publication {trial.sequence} was taken back: the reconciler was not seen for"
            f" {trial.confirm_seconds} seconds after it; a newer publication ends this"
        )
    if is_expired:
        alarms.append(
            "signed metadata has expired: nothing newer arrives; the last good policy stays"
        )
    return tuple(alarms)
