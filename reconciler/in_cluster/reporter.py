"""Make our objects say how things stand.

In:   the reconciler's account; our objects as they are watched
Out:  statuses, PolicyRollout objects, Events, written where they differ
Shell over our own kinds. What they should say is `status`'s part.

Holds always:
1. Nothing is written that is there already: when nothing changes, no request is sent.
2. One object a rollout, and no more than KEPT_ROLLOUTS of them; numbers that only grow are written at
   most every EVIDENCE_SECONDS.
3. An Event is made before the status shows what it tells: after a crash between the two it is made
   again, under the same name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.kube_api import CONFLICT, NOT_FOUND, KubeApi, KubeRefusal
from reconciler.account import rollout_account
from reconciler.app import Reconciler
from reconciler.cluster.kinds import (
    RepositoryObject,
    RolloutObject,
    in_force,
    repositories_path,
    rollouts_path,
)
from reconciler.cluster.merge_patch import merge_patch
from reconciler.in_cluster.requests import AnnotationRequests
from reconciler.in_cluster.silence import Silent, silence_event
from reconciler.in_cluster.status import (
    MAX_HISTORY,
    is_same_story,
    new_events,
    new_rollout,
    refused_status,
    repository_status,
    rollout_name,
    rollout_status,
)
from reconciler.staging.interfaces import Action
from reconciler.staging.request_file import PREFIX

log = structlog.get_logger()

NOT_REPORTED: Final = "status_not_written"

REST_SECONDS: Final = 0.3
"""Between two looks: what changes together is written together."""

ECHO_SECONDS: Final = 5.0
"""How long the watch may take to show what was written; after that it was lost, and is written again."""

EVIDENCE_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 5.0
KEPT_ROLLOUTS: Final = 10
ANOTHER: Final = "AnotherIsFollowed"

Repositories = Callable[[], Mapping[tuple[str, str], RepositoryObject]]
Rollouts = Callable[[], Mapping[tuple[str, str], RolloutObject]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What was written over what, and when."""

    said: Mapping[str, Any]
    wanted: Mapping[str, Any]
    at: float


class Reporter:
    """What is said to one namespace, while this replica leads."""

    def __init__(
        self,
        api: KubeApi,
        *,
        repositories: Repositories,
        rollouts: Rollouts,
        requests: AnnotationRequests,
        instance: str,
    ) -> None:
        self._api = api
        self._repositories = repositories
        self._rollouts = rollouts
        self._requests = requests
        self._instance = instance
        self._woken = asyncio.Event()
        self._written: dict[str, _Written] = {}
        self._awaits_echo = False
        self._evidence_at: dict[str, float] = {}
        self._silent: Silent = {}
        self._silence_told_at = 0.0
        self.fault: StalledError | None = None
        """Why the repository in force cannot be followed, if it cannot."""
        self._mirror: Mapping[str, Any] | None = None
        self.requested_at = ""
        """The token of the last request to fetch now that was passed on."""

    def mirror_stands(self, standing: Mapping[str, Any] | None) -> None:
        """What is to be said of the policies' copies: empty is nothing, None what was said before."""
        self._mirror = standing
        self.wake()

    def wake(self) -> None:
        """Something may have changed: look soon."""
        self._woken.set()

    async def run(self, reconciler: Reconciler) -> None:
        """Look until cancelled."""
        while True:
            pause = EVIDENCE_SECONDS
            self._awaits_echo = False
            try:
                await self._report(reconciler)
                pause = ECHO_SECONDS if self._awaits_echo else pause
            except TransientError as error:
                log.warning(NOT_REPORTED, error=str(error))
                pause = RETRY_SECONDS
            await asyncio.sleep(REST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            self._woken.clear()

    async def _report(self, reconciler: Reconciler) -> None:
        followed = in_force(self._repositories().values())
        for found in list(self._repositories().values()):
            if found is not followed:
                await self._refuse(found, ANOTHER, f"{followed.name} is followed here")  # type: ignore[union-attr]
        if followed is None:
            return
        if self.fault is not None:
            await self._refuse(followed, self.fault.reason, str(self.fault))
        else:
            status = repository_status(
                followed, reconciler.account(), requested_at=self.requested_at
            )
            mirror = followed.status.get("mirror") if self._mirror is None else self._mirror
            if mirror:
                status["mirror"] = mirror
            await self._write_repository(followed, status)
        await self._report_rollouts(followed, reconciler)
        await self._report_silence(followed, reconciler.silent_peers())

    async def _report_rollouts(self, owner: RepositoryObject, reconciler: Reconciler) -> None:
        account = reconciler.account()
        current = account.current.revision if account.current else ""
        ours = sorted(
            (each for each in self._rollouts().values() if each.repository == owner.name),
            key=lambda each: (each.created, each.name),
        )
        if current and all(each.revision != current for each in ours):
            await self._make(owner, current)
        for found in ours:
            await self._report_rollout(found, reconciler)
        needed = {current, account.stable, owner.status.get("lastAppliedRevision")}
        for old in [each for each in ours if each.revision not in needed][:-KEPT_ROLLOUTS]:
            await self._remove(old)

    async def _report_rollout(self, found: RolloutObject, reconciler: Reconciler) -> None:
        about = rollout_account(reconciler.store, found.revision, entries=MAX_HISTORY)
        if about is None or (not about.history and found.status):
            return  # all that is known of it was read from the object itself
        answers = {**_handled(found, reconciler), **self._requests.answers_to(found.revision)}
        wanted = rollout_status(
            found, about, reconciler.account(), answers=answers, now=time.time()
        )
        if is_same_story(found.status, wanted) and self._is_too_soon(found.name):
            return
        for event in new_events(found, about, instance=self._instance):
            await self._tell(found.namespace, event)
        path = f"{rollouts_path(found.namespace)}/{found.name}"
        if await self._write(path, found.status, wanted):
            self._evidence_at[found.name] = time.monotonic()

    async def _report_silence(self, owner: RepositoryObject, silent: Silent) -> None:
        """An Event, at most every EVIDENCE_SECONDS: nodes find out one after the other."""
        if time.monotonic() - self._silence_told_at < EVIDENCE_SECONDS:
            return
        event = silence_event(owner, self._silent, silent, now=time.time(), instance=self._instance)
        if event is not None:
            await self._tell(owner.namespace, event)
            self._silent, self._silence_told_at = dict(silent), time.monotonic()

    def _is_too_soon(self, name: str) -> bool:
        written = self._evidence_at.get(name)
        return written is not None and time.monotonic() - written < EVIDENCE_SECONDS

    async def _refuse(self, found: RepositoryObject, reason: str, message: str) -> None:
        said = found.status.get("conditions", [])
        is_said = any(
            one.get("reason") == reason
            and one.get("message") == message
            and one.get("observedGeneration") == found.generation
            for one in said
        )
        if not is_said:
            status = refused_status(found, reason, message, now=time.time())
            await self._write_repository(found, status)

    async def _write_repository(self, found: RepositoryObject, wanted: Mapping[str, Any]) -> None:
        path = f"{repositories_path(found.namespace)}/{found.name}"
        await self._write(path, found.status, wanted)

    async def _write(self, path: str, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Write what differs; True if anything was written."""
        patch = merge_patch(said, wanted)
        if not patch or self._is_on_its_way(path, said, wanted):
            return False
        try:
            await self._api.patch(f"{path}/status", {"status": patch})
        except KubeRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return False
        self._note(path, said, wanted)
        return True

    def _note(self, name: str, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        self._written[name] = _Written(said=said, wanted=wanted, at=time.monotonic())

    def _is_on_its_way(self, name: str, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """True if just this was written a moment ago: the watch may not have brought it yet. What does not
        come was lost, as by an API server that was set back to a backup."""
        known = self._written.get(name)
        if known is None or (known.said, known.wanted) != (said, wanted):
            return False
        is_recent = time.monotonic() - known.at < ECHO_SECONDS
        self._awaits_echo |= is_recent
        return is_recent

    async def _make(self, owner: RepositoryObject, revision: str) -> None:
        name = rollout_name(owner.name, revision)
        if self._is_on_its_way(name, {}, {"uid": owner.uid}):
            return
        with suppress_conflict():
            await self._api.create(rollouts_path(owner.namespace), new_rollout(owner, revision))
        self._note(name, {}, {"uid": owner.uid})

    async def _remove(self, old: RolloutObject) -> None:
        try:
            await self._api.delete(f"{rollouts_path(old.namespace)}/{old.name}")
        except KubeRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise

    async def _tell(self, namespace: str, event: Mapping[str, Any]) -> None:
        with suppress_conflict():
            await self._api.create(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events", event)


class suppress_conflict:
    """It is there already: what was to be made is made."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        return isinstance(error, KubeRefusal) and error.status == CONFLICT


def _handled(found: RolloutObject, reconciler: Reconciler) -> dict[str, tuple[str, str]]:
    """Tokens that were handled before the status could say so."""
    tokens: Iterable[tuple[str, str]] = (
        (action, found.annotations.get(PREFIX + action, "")) for action in Action
    )
    return {
        action: (token, "")
        for action, token in tokens
        if token and token == reconciler.store.handled(action)
    }
