"""Keep a reconciler on what the repository object in force asks for.

In:   the repository in force, and the secrets that it names
Out:  Following values; "fetch now"
Shell over the secrets: they are read, again and again, and not watched, so that no other secret need be
readable.

Holds always:
1. What cannot be meant so is not fetched any more: it may ask for a check that was not asked for before.
2. Of a repository that is gone, nothing more is fetched.
3. Who is to be told and cannot be holds up nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from netpolicy.errors import StalledError, TransientError
from netpolicy.kube_api import NOT_FOUND, KubeApi, KubeRefusal
from reconciler.app import Reconciler
from reconciler.cluster.kinds import RepositoryObject
from reconciler.in_cluster.following import INVALID, following_of, target_of, verification_of
from reconciler.in_cluster.reporter import Reporter
from reconciler.notify import Target
from reconciler.signatures.rules import Verification
from reconciler.surroundings import Following

log = structlog.get_logger()

NOT_FOLLOWED: Final = "repository_not_followed"
NOT_TOLD: Final = "notification_not_configured"
SECRET_SECONDS: Final = 60.0
"""How often the secrets are read again."""

RETRY_SECONDS: Final = 5.0


class FollowingTask:
    """Follows one namespace's repository. `state_dir` keeps what its secrets say as files."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        state_dir: Path,
        *,
        in_force: Callable[[], RepositoryObject | None],
        reporter: Reporter,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._state_dir = state_dir
        self._in_force = in_force
        self._reporter = reporter
        self._changed = asyncio.Event()

    def look(self) -> None:
        """The object may have changed."""
        self._changed.set()

    async def run(self, reconciler: Reconciler) -> None:
        """Keep this reconciler on it, until cancelled."""
        followed: Following | None = None
        while True:
            self._changed.clear()
            pause = SECRET_SECONDS
            try:
                followed = await self._turn(reconciler, followed)
            except TransientError as error:
                log.warning(NOT_FOLLOWED, error=str(error))
                pause = RETRY_SECONDS
            self._fetch_if_asked(reconciler)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def _turn(self, reconciler: Reconciler, followed: Following | None) -> Following | None:
        """Have the reconciler follow what is wanted now; returns what it follows."""
        try:
            wanted = await self._wanted(followed)
            self._reporter.fault = None
        except StalledError as error:
            log.error(NOT_FOLLOWED, error=str(error))
            self._reporter.fault = error
            wanted = replace(followed, is_suspended=True) if followed is not None else None
        if wanted is None or wanted == followed:
            return followed
        reconciler.follow(wanted)
        return wanted

    async def _wanted(self, before: Following | None) -> Following | None:
        """What the object asks for."""
        found = self._in_force()
        if found is None:
            return replace(before, is_suspended=True) if before is not None else None
        secret = await self._secret(found.secret) if found.secret else {}
        return following_of(
            found,
            secret,
            folder=self._state_dir / "credentials",
            verification=await self._verification(found),
            notifications=await self._targets(found),
        )

    async def _verification(self, found: RepositoryObject) -> Verification | None:
        if found.verification is None:
            return None
        secret = await self._secret(found.verification.secretRef.name)
        return verification_of(found.verification, secret, folder=self._state_dir / "signers")

    async def _targets(self, found: RepositoryObject) -> tuple[Target, ...]:
        targets = []
        for number, asked in enumerate(found.notifications):
            folder = self._state_dir / "notifications" / str(number)
            try:
                secret = await self._secret(asked.secretRef.name)
                targets.append(target_of(asked, secret, folder=folder))
            except StalledError as error:
                log.error(NOT_TOLD, kind=asked.kind, project=asked.project, error=str(error))
        return tuple(targets)

    def _fetch_if_asked(self, reconciler: Reconciler) -> None:
        found = self._in_force()
        if found is not None and found.requested_at != self._reporter.requested_at:
            self._reporter.requested_at = found.requested_at
            if found.requested_at != found.status.get("lastHandledReconcileAt", ""):
                reconciler.poke()

    async def _secret(self, name: str) -> Mapping[str, bytes]:
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{name}"
        try:
            data = json.loads(await self._api.read(path)).get("data") or {}
        except KubeRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            raise StalledError(f"there is no secret {name}", reason=INVALID) from refusal
        return {key: base64.b64decode(text) for key, text in data.items()}
