"""Rollouts of a cluster: read from PolicyRollout objects, asked for by their annotations.

In:   a namespace, and how to reach its API server
Out:  RolloutAccess
Shell over the API server. The reconciler need not be reachable, nor run on this machine.

Holds always:
1. What the person who runs it may not do, the API server refuses; nothing else decides that.
2. Only the annotations of one request are written: whatever else the object says stays.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from netpolicy.errors import StalledError, TransientError
from netpolicy.kube_api import KubeApi
from reconciler.cluster.kinds import (
    PREFIX,
    RepositoryJson,
    RolloutJson,
    RolloutObject,
    in_force,
    repositories_path,
    repository_view,
    rollout_view,
    rollouts_path,
)
from reconciler.in_cluster.shown import current_of, is_taken_back, shown_history, shown_status
from reconciler.staging.access import Whereabouts
from reconciler.staging.interfaces import Request
from reconciler.staging.request_file import BY, MAX_TEXT, REASON, ROLLBACK_TO
from reconciler.state.rollouts import Entry

LOOK_SECONDS: Final = 0.5
OWN_KUBECONFIG: Final = Path("~/.kube/config")
POD_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"
"""What Kubernetes sets in every pod."""

Answer = TypeVar("Answer")


class _Repositories(msgspec.Struct):
    items: list[RepositoryJson]


class _Rollouts(msgspec.Struct):
    items: list[RolloutJson]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The rollouts of the repository in force, and the revision that it says is enforced."""

    rollouts: tuple[RolloutObject, ...]
    stable: str

    @property
    def current(self) -> RolloutObject | None:
        """The rollout to act on."""
        return current_of(self.rollouts, stable=self.stable)

    def of(self, revision: str) -> RolloutObject | None:
        """A revision's rollout, if it has one here."""
        return next((one for one in self.rollouts if one.revision == revision), None)


class ClusterAccess:
    """The rollouts of one namespace."""

    def __init__(self, *, namespace: str, kubeconfig: Path | None) -> None:
        self._namespace = namespace
        self._kubeconfig = kubeconfig

    @property
    def place(self) -> str:
        """The objects."""
        return f"the PolicyRollout of namespace {self._namespace}"

    def whereabouts(self) -> Whereabouts:
        """What there is to act on."""
        found = self._objects()
        current = found.current
        if current is None:
            return Whereabouts(stable=found.stable)
        return Whereabouts(
            current=current.revision,
            where=str(current.status.get("where", "")),
            is_taken_back=is_taken_back(current),
            stable=found.stable,
        )

    def status(self) -> dict[str, Any]:
        """Everything that the object of the current rollout says."""
        found = self._objects()
        if found.current is None:
            return {}
        enforced = found.of(found.stable)
        return shown_status(found.current, enforced=enforced, stable=found.stable, now=time.time())

    def history(self, entries: int) -> tuple[Entry, ...]:
        """What happened to the revisions that have an object, the newest first."""
        return tuple(shown_history(self._objects().rollouts)[:entries])

    def revisions(self) -> tuple[str, ...]:
        """The revisions that have an object; which of them are kept whole, the reconciler answers."""
        newest = sorted(self._objects().rollouts, key=lambda one: one.created, reverse=True)
        return tuple(one.revision for one in newest)

    def ask(self, request: Request, *, wait_seconds: float) -> str | None:
        """Annotate the revision's object, and wait until its status answers."""
        return self._with_api(lambda api: self._ask(api, request, wait_seconds))

    async def _ask(self, api: KubeApi, request: Request, wait_seconds: float) -> str | None:
        asked = (await self._read(api)).of(request.revision)
        if asked is None:
            raise StalledError(f"{request.revision} has no PolicyRollout in {self._namespace}")
        path = f"{rollouts_path(self._namespace)}/{asked.name}"
        await api.patch(path, {"metadata": {"annotations": _annotations(request)}})
        end = time.monotonic() + wait_seconds
        while (answer := _answer(await _rollout(api, path), request)) is None:
            if time.monotonic() >= end:
                return None
            await asyncio.sleep(LOOK_SECONDS)
        return answer

    def _objects(self) -> Objects:
        return self._with_api(self._read)

    async def _read(self, api: KubeApi) -> Objects:
        path = repositories_path(self._namespace)
        repositories = _decode(await api.read(path), _Repositories).items
        followed = in_force(map(repository_view, repositories))
        if followed is None:
            raise StalledError(f"namespace {self._namespace} has no PolicyRepository")
        rollouts = _decode(await api.read(rollouts_path(self._namespace)), _Rollouts).items
        ours = (one for one in map(rollout_view, rollouts) if one.repository == followed.name)
        return Objects(
            rollouts=tuple(ours), stable=str(followed.status.get("lastAppliedRevision", ""))
        )

    def _with_api(self, use: Callable[[KubeApi], Awaitable[Answer]]) -> Answer:
        async def connected() -> Answer:
            api = await KubeApi.connect(_readable(self._kubeconfig or _found_kubeconfig()))
            try:
                return await use(api)
            finally:
                await api.close()

        return asyncio.run(connected())


def _annotations(request: Request) -> dict[str, str | None]:
    """The request; what it does not say is taken away, lest it be read as said again."""
    said = {
        BY: request.by[:MAX_TEXT],
        REASON: request.reason[:MAX_TEXT],
        ROLLBACK_TO: request.to,
    }
    return {
        PREFIX + request.action: request.token,
        **{key: text or None for key, text in said.items()},
    }


def _answer(found: RolloutObject, request: Request) -> str | None:
    if found.status.get("lastHandled", {}).get(request.action) != request.token:
        return None
    return str(found.status.get("answers", {}).get(request.action, ""))


async def _rollout(api: KubeApi, path: str) -> RolloutObject:
    return rollout_view(_decode(await api.read(path), RolloutJson))


Decoded = TypeVar("Decoded")


def _decode(data: bytes, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise TransientError(f"the API server answers with something else: {error}") from error


def _found_kubeconfig() -> Path | None:
    """The one that kubectl would take; None: this is a pod."""
    named = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    path = Path(named) if named else OWN_KUBECONFIG.expanduser()
    try:
        found = path if named or path.exists() else None
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error
    if found is None and POD_VARIABLE not in os.environ:
        raise StalledError(f"{path} is not there, and this is no pod: give --kubeconfig")
    return found


def _readable(path: Path | None) -> Path | None:
    try:
        if path is not None:
            path.open("rb").close()
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error
    return path
