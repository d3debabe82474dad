"""Keep trying to lead.

In:   a KubeApi, the Lease's place, the highest number published
Out:  the term that this replica leads in, or none; whether it is cut off from the API server meanwhile
Shell over one Lease. Every write names the version it replaces, so that of two the server takes one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from netpolicy.errors import TransientError
from netpolicy.kube_api import CONFLICT, NOT_FOUND, KubeApi, KubeRefusal
from netpolicy.kube_objects import KubeObject
from reconciler.cluster.kinds import PREFIX
from reconciler.cluster.lease import (
    DURATION_SECONDS,
    RETRY_SECONDS,
    Election,
    LeaseRecord,
    Term,
)

log = structlog.get_logger()

NAME: Final = "tidegate-reconciler"
RESERVED: Final = f"{PREFIX}reserved-sequence"
ADDRESS: Final = f"{PREFIX}address"
LEADS: Final = "leadership_taken"
LOST: Final = "leadership_lost"
CUT_OFF: Final = "leader_cut_off"


class _Spec(msgspec.Struct):
    holderIdentity: str | None = None
    leaseTransitions: int | None = None
    renewTime: str | None = None


class _Lease(KubeObject):
    spec: _Spec = msgspec.field(default_factory=_Spec)


class LeaseKeeper:
    """One replica's hold of the Lease."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        identity: str,
        *,
        address: str,
        used: Callable[[], int],
    ) -> None:
        self._api = api
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._election = Election(identity, address=address)
        self._identity = identity
        self._used = used
        self._has_changed = asyncio.Condition()
        self._was = ""
        self.trouble = ""
        """Why the last try came to nothing; empty if it came through."""

    @property
    def term(self) -> Term | None:
        """The term that this replica leads in now; None if it does not lead."""
        return self._election.term(now=time.monotonic())

    @property
    def last_term(self) -> Term | None:
        """The term that it leads in, or led in until it could not renew; None once another was seen to."""
        return self._election.last_term

    @property
    def leader_address(self) -> str:
        """Where another replica that leads serves agents; empty if none is known or it is this one."""
        return self._election.leader_address

    async def run(self) -> None:
        """Try until cancelled; then give up what is held."""
        try:
            while True:
                self.trouble = await self._tried()
                await self._tell()
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            await asyncio.shield(self._resign())

    async def until_leading(self) -> Term:
        """Wait until this replica leads."""
        async with self._has_changed:
            await self._has_changed.wait_for(lambda: self.term is not None)
        term = self.term
        assert term is not None
        return term

    async def until_deposed(self, term: Term) -> None:
        """Wait until another held the Lease after this term. Not to reach the API server is not enough."""
        async with self._has_changed:
            await self._has_changed.wait_for(lambda: not self._may_last(term))

    def _may_last(self, term: Term) -> bool:
        return self.last_term is not None and self.last_term.token == term.token

    async def _tried(self) -> str:
        """Try once; returns why that came to nothing, if it did."""
        seconds = RETRY_SECONDS * 2
        try:
            async with asyncio.timeout(seconds):
                await self._try()
        except TimeoutError:
            return f"the API server gave no answer in {seconds:g} seconds"
        except TransientError as error:
            return str(error)
        return ""

    async def _try(self) -> None:
        found = await self._read()
        self._election.see(found, now=time.monotonic())
        before = time.monotonic()
        written = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        claim = self._election.claim(used=self._used(), renewed_at=written, now=before)
        if claim is None:
            return
        record = await self._write(claim)
        self._election.wrote(record, before=before, now=time.monotonic())

    async def _tell(self) -> None:
        stands = LEADS if self.term else CUT_OFF if self.last_term else LOST
        if stands != (self._was or LOST):
            log.info(stands, identity=self._identity)
        self._was = stands
        async with self._has_changed:
            self._has_changed.notify_all()

    async def _read(self) -> LeaseRecord:
        try:
            return _record(await self._api.read(f"{self._folder}/{NAME}"))
        except KubeRefusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return LeaseRecord()

    async def _write(self, record: LeaseRecord) -> LeaseRecord:
        body = _body(record, self._namespace)
        if not record.version:
            return _record(await self._api.create(self._folder, body))
        return _record(await self._api.replace(f"{self._folder}/{NAME}", body))

    async def _resign(self) -> None:
        term = self._election.resign()
        if term is None:
            return
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                while not await self._give_up(term):
                    pass  # a renewal that was cut short came through after all, or somebody annotated it
        except (TransientError, TimeoutError) as error:
            log.warning(LOST, identity=self._identity, error=str(error))

    async def _give_up(self, term: Term) -> bool:
        """False if the Lease changed between a look and the write."""
        record = self._election.given_up(await self._read(), term)
        if record is None:
            return True
        try:
            await self._write(record)
        except KubeRefusal as refusal:
            if refusal.status != CONFLICT:
                raise
            return False
        return True


def _record(data: bytes) -> LeaseRecord:
    try:
        lease = msgspec.json.decode(data, type=_Lease)
        annotations = lease.metadata.annotations or {}
        reserved = int(annotations.get(RESERVED, "0"))
    except (msgspec.MsgspecError, ValueError) as error:
        raise TransientError(f"the Lease cannot be read: {error}") from error
    return LeaseRecord(
        holder=lease.spec.holderIdentity or "",
        address=annotations.get(ADDRESS, ""),
        transitions=lease.spec.leaseTransitions or 0,
        reserved=reserved,
        renewed_at=lease.spec.renewTime or "",
        version=lease.metadata.resourceVersion,
    )


def _body(record: LeaseRecord, namespace: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": NAME,
        "namespace": namespace,
        "annotations": {RESERVED: str(record.reserved), ADDRESS: record.address},
    }
    if record.version:
        metadata["resourceVersion"] = record.version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": DURATION_SECONDS,
            "leaseTransitions": record.transitions,
            "renewTime": record.renewed_at,
        },
    }
