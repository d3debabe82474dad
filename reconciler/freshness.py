"""Sign the timestamp anew now and then, so that agents know that nothing is withheld from them.

In:   the publication in force
Out:  the same publication with a fresh signature
Shell over the publisher and the clock.

Holds always:
1. A signature that cannot be made is logged and tried again; nothing else changes.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from reconciler.publisher import Publisher

log = structlog.get_logger()

NOT_REFRESHED: Final = "timestamp_not_refreshed"


async def keep_fresh(publisher: Publisher, *, interval_seconds: float) -> None:
    """Refresh until cancelled: at once what aged while no reconciler ran."""
    if publisher.is_ageing:
        _refresh(publisher)
    while True:
        await asyncio.sleep(interval_seconds)
        _refresh(publisher)


def _refresh(publisher: Publisher) -> None:
    try:
        publisher.refresh()
    except (TransientError, StalledError) as error:
        log.error(NOT_REFRESHED, error=str(error))
