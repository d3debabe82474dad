"""Push a branch that undoes what was rolled back, where the repository's settings ask for one.

In:   the current rollout, the Git source
Out:  a branch for people to merge; a note of what was pushed, and of why not
Shell over the source and one value in the state database.

Holds always:
1. What is enforced never waits for it: the rollback is out before, and no failure here fails a pass.
2. A revert is pushed once, and tried again after a failure only if a retry may heal it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from reconciler.rollout.machine import Phase, Rollout
from reconciler.source import GitSource, Revert
from reconciler.state.rollouts import RolloutStore

log = structlog.get_logger()

MAX_REASON: Final = 2000


class Reverts:
    """The reverts of one repository."""

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self._given_up = ""
        self.trouble = ""
        """Why the current rollout's revert is not pushed; empty if it is, or none is asked for."""

    async def push_due(self, rollout: Rollout | None, source: GitSource) -> None:
        """Push the revert of what was rolled back, unless that is done; never raises for a failure."""
        revert = revert_of(rollout)
        if revert is None or revert.revision == self._store.pushed_revert():
            self.trouble = ""
            return
        if revert.revision == self._given_up:
            return
        try:
            commit = await asyncio.to_thread(source.push_revert, revert)
            self._store.save_pushed_revert(revert.revision)
        except (TransientError, StalledError) as error:
            self.trouble = f"its revert is not pushed to {revert.branch}: {error}"
            self._given_up = revert.revision if isinstance(error, StalledError) else ""
            log.error("revert_not_pushed", revision=revert.revision, error=str(error))
            return
        self.trouble = ""
        log.info(
            "revert_pushed", revision=revert.revision, branch=revert.branch, revert_commit=commit
        )


def revert_of(rollout: Rollout | None) -> Revert | None:
    """What is to be pushed; None if nothing was rolled back, or nobody asked for it."""
    if rollout is None or rollout.phase not in (Phase.ROLLED_BACK, Phase.QUARANTINED):
        return None
    if not rollout.plan.revert_branch or not rollout.stable:
        return None
    reason = rollout.reason[:MAX_REASON]
    return Revert(
        revision=rollout.revision,
        target=rollout.stable,
        branch=rollout.plan.revert_branch.replace("{revision}", rollout.revision[:12]),
        message=(
            f"Revert {rollout.revision[:12]}, which was rolled back\n\n{reason}\n\n"
            f"The tree is that of {rollout.stable}, which is enforced.\n"
        ),
    )
