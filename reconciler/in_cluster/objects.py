"""Our own two kinds of objects, followed: what is to be enforced, and what became of it.

In:   the API server
Out:  the objects as they are known; what they remember of a reconciler that is gone
Shell over two watches.

Holds always:
1. What a new leader begins with is asked of the server: copies may be older than the last words of who led.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from netpolicy.kube_api import KubeApi
from netpolicy.kube_watch import KubeWatch
from reconciler.cluster.kinds import (
    RepositoryJson,
    RepositoryObject,
    RolloutJson,
    in_force,
    repositories_path,
    repository_view,
    rollout_view,
    rollouts_path,
)
from reconciler.in_cluster.said import on_its_way
from reconciler.in_cluster.waiting import Lack, Needed
from reconciler.rollout.machine import TAKEN_BACK
from reconciler.surroundings import Remembered


class OwnObjects:
    """The `PolicyRepository` and `PolicyRollout` objects of one namespace."""

    def __init__(self, api: KubeApi, namespace: str, *, changed: Callable[[], None]) -> None:
        """`changed` is called after each change of any of them."""
        self._told = changed
        self._changed = asyncio.Event()
        self.repositories = KubeWatch(
            api,
            repositories_path(namespace),
            RepositoryJson,
            repository_view,
            changed=self._note,
        )
        self.rollouts = KubeWatch(
            api,
            rollouts_path(namespace),
            RolloutJson,
            rollout_view,
            changed=self._note,
        )

    @property
    def watches(self) -> tuple[KubeWatch[Any, Any], ...]:
        """Both watches."""
        return self.repositories, self.rollouts

    @property
    def repository(self) -> RepositoryObject | None:
        """The repository in force, as far as is known."""
        return in_force(self.repositories.cache.items.values())

    @property
    def unread(self) -> Lack | None:
        """What was not read since the start; None if all was."""
        for watch in self.watches:
            if not watch.cache.is_synced:
                why = f"{watch.resource} were not read yet: {watch.trouble or 'no answer'}"
                return Lack(of=Needed.API_SERVER, why=why)
        return None

    async def until_read(self) -> None:
        """Wait until both kinds were read once."""
        while self.unread is not None:
            self._changed.clear()
            await self._changed.wait()

    async def remembered(self) -> Remembered:
        """What was enforced, and what was taken back; raises TransientError."""
        found = in_force(await self.repositories.ask())
        if found is None:
            return Remembered()
        ours = [one for one in await self.rollouts.ask() if one.repository == found.name]
        back = [one.revision for one in ours if one.status.get("phase") in TAKEN_BACK]
        stable = str(found.status.get("lastAppliedRevision", ""))
        statuses = (found.status, *(one.status for one in ours))
        return Remembered(
            stable=stable,
            taken_back=tuple(sorted(back)),
            on_its_way=on_its_way(ours, stable=stable),
            sequence=max(int(said.get("sequence") or 0) for said in statuses),
        )

    def _note(self) -> None:
        self._changed.set()
        self._told()
