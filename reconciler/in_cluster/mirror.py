"""Keep the copies of the promoted policies in the cluster as they should be.

In:   the repository in force, the reconciler's promoted revision, the copies as they are watched
Out:  MirroredPolicy objects, written where they differ, deleted where their policy is gone; how that stands
Shell over one kind of objects. What must be written is `reconciler.mirror`'s part.

Holds always:
1. Nothing is enforced by what is written here, and nothing here holds up what is.
2. While nothing changes, no request is sent but the watch.
3. What cannot be read, from Git or the API server, deletes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.kube_api import APPLY_PATCH, NOT_FOUND, KubeApi, KubeRefusal
from netpolicy.kube_objects import KubeObject
from netpolicy.kube_watch import KubeWatch
from reconciler.app import Reconciler
from reconciler.cluster.kinds import API_VERSION, PREFIX, RepositoryObject
from reconciler.mirror import Copy, Key, Step, copies_of, next_step

log = structlog.get_logger()

NOT_MIRRORED: Final = "policy_not_mirrored"
MIRRORED: Final = "policies_mirrored"

KIND: Final = "MirroredPolicy"
ALL_COPIES: Final = f"/apis/{API_VERSION}/mirroredpolicies"
MARK: Final = f"{PREFIX}mirrored-by"
MANAGER: Final = "tidegate-mirror"

REST_SECONDS: Final = 0.5
"""After a pass: the watch shows what was written, and what changes together is looked at together."""

RETRY_SECONDS: Final = 30.0
MAX_MESSAGE: Final = 1000


class _CopyJson(KubeObject):
    spec: dict[str, Any] = msgspec.field(default_factory=dict)


class Mirror:
    """The copies of one term. `standing`: what the repository's status says of them; empty: nothing,
    None: not known yet."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        *,
        repository: Callable[[], RepositoryObject | None],
        told: Callable[[], None],
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._repository = repository
        self._told = told
        self._woken = asyncio.Event()
        self._watch = KubeWatch(
            api,
            ALL_COPIES,
            _CopyJson,
            lambda one: Copy(spec=one.spec),
            changed=self._copies_changed,
            selector={"labelSelector": f"{MARK}={namespace}"},
        )
        self._copy_changes = 0
        self._settled: tuple[bool, str, str, int] | None = None
        self._settled_at = 0.0
        self._of_revision: tuple[str, Mapping[Key, Copy]] = ("", {})
        self._stored: dict[Key, tuple[Copy, Copy]] = {}
        self._faults: dict[Key, str] = {}
        self.standing: Mapping[str, Any] | None = None

    def wake(self) -> None:
        """Something may have changed: look soon."""
        self._woken.set()

    async def run(self, reconciler: Reconciler) -> None:
        """Mirror until cancelled, once somebody wants copies or has some."""
        while not self._is_asked():
            await self._until_woken(None)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run())
            while True:
                trouble = ""
                try:
                    await self._pass(reconciler)
                except (TransientError, StalledError) as error:
                    trouble = str(error)
                    log.warning(NOT_MIRRORED, error=trouble)
                    self._say({**(self.standing or {}), "message": trouble[:MAX_MESSAGE]})
                await asyncio.sleep(REST_SECONDS)
                await self._until_woken(RETRY_SECONDS if trouble or self._faults else None)

    def _copies_changed(self) -> None:
        self._copy_changes += 1
        self.wake()

    def _is_asked(self) -> bool:
        found = self._repository()
        return found is not None and (found.is_mirrored or bool(found.status.get("mirror")))

    async def _until_woken(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _pass(self, reconciler: Reconciler) -> None:
        repository, revision = self._repository(), reconciler.stable
        if repository is None or not revision or not self._watch.cache.is_synced:
            return
        at_stake = (
            repository.is_mirrored,
            repository.allowed_deletions,
            revision,
            self._copy_changes,
        )
        if at_stake == self._settled and not self._is_time_to_retry():
            return
        wanted: Mapping[Key, Copy] = {}
        if repository.is_mirrored:
            wanted = await self._wanted(reconciler, revision)
        step = next_step(
            {key: self._as_stored(key, copy) for key, copy in wanted.items()},
            {(space, name): copy for (space, name), copy in self._watch.cache.items.items()},
            may_delete_all=not repository.is_mirrored or repository.allowed_deletions == revision,
        )
        await self._perform(step, wanted)
        self._say(self._account(step, wanted, revision if repository.is_mirrored else ""))
        self._settled, self._settled_at = at_stake, time.monotonic()

    def _is_time_to_retry(self) -> bool:
        return bool(self._faults) and time.monotonic() - self._settled_at >= RETRY_SECONDS

    async def _wanted(self, reconciler: Reconciler, revision: str) -> Mapping[Key, Copy]:
        if self._of_revision[0] != revision:
            policies = await reconciler.policies_of(revision)
            self._of_revision = (revision, copies_of(policies, home=self._namespace))
        return self._of_revision[1]

    def _as_stored(self, key: Key, copy: Copy) -> Copy:
        """The copy as the API server keeps it: it may leave out what it takes for nothing."""
        written, stored = self._stored.get(key, (copy, copy))
        return stored if written == copy else copy

    async def _perform(self, step: Step, wanted: Mapping[Key, Copy]) -> None:
        for key in step.apply:
            await self._write(key, wanted[key])
        for namespace, name in step.delete:
            with _suppress_not_found():
                await self._api.delete(_path(namespace, name))
        for known in (self._stored, self._faults):
            for key in [key for key in known if key not in wanted]:
                del known[key]
        written = sum(key not in self._faults for key in step.apply)
        if written or step.delete:
            log.info(MIRRORED, written=written, deleted=len(step.delete), held=step.held)

    async def _write(self, key: Key, copy: Copy) -> None:
        """Apply one; what the server refuses of it holds up no other."""
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": key[1],
                "namespace": key[0],
                "labels": {MARK: self._namespace},
            },
            "spec": copy.spec,
        }
        query = {"fieldManager": MANAGER, "force": "true"}
        try:
            answer = await self._api.patch(_path(*key), body, kind=APPLY_PATCH, query=query)
        except KubeRefusal as refusal:
            if self._faults.get(key) != str(refusal):
                log.warning(NOT_MIRRORED, namespace=key[0], name=key[1], error=str(refusal))
            self._faults[key] = str(refusal)
            return
        self._faults.pop(key, None)
        self._stored[key] = (copy, Copy(spec=msgspec.json.decode(answer, type=_CopyJson).spec))

    def _account(self, step: Step, wanted: Mapping[Key, Copy], revision: str) -> dict[str, Any]:
        """What the status says; nothing once nobody wants copies and none are left."""
        if not wanted and not step.held:
            return {"revision": revision, "copies": 0} if revision else {}
        message = ""
        if self._faults:
            (namespace, name), why = min(self._faults.items())
            message = f"{namespace}/{name}: {why}"
        elif step.held:
            message = f"{step.held} deletions wait for {PREFIX}allow-deletions={revision}"
        return {
            "revision": revision,
            "copies": len(wanted) - len(self._faults) + step.held,
            "missing": len(self._faults),
            "held": step.held,
            "message": message[:MAX_MESSAGE],
        }

    def _say(self, standing: Mapping[str, Any]) -> None:
        if standing != self.standing:
            self.standing = standing
            self._told()


class _suppress_not_found:
    """It is gone already."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        return isinstance(error, KubeRefusal) and error.status == NOT_FOUND


def _path(namespace: str, name: str) -> str:
    return f"/apis/{API_VERSION}/namespaces/{namespace}/mirroredpolicies/{name}"
