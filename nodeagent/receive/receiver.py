"""Keep this node's bundle up to date: dial, verify, persist, apply, acknowledge.

In:   announcements and inventory from the reconciler
Out:  `apply` and `inventory` called with verified bundles and whole inventories; answers
Shell: owns the conversation.

Holds always:
1. Order: verify → persist and apply (`installer`) → ack.
2. A bundle that is refused, cannot be stored, or cannot be applied changes nothing and is nacked.
3. No trouble of network, server or disk ends `run`: what is enforced stays enforced.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import grpc
import structlog

from netpolicy.encryption import NodeKey
from netpolicy.errors import RejectedBundle, TransientError
from netpolicy.evidence import NodeEvidence
from netpolicy.inventory import AddressEntry
from netpolicy.node_encryption import NodeEncryption
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.alarms import Expiry, alarms_of
from nodeagent.receive.backoff import Backoff
from nodeagent.receive.client import certificate_fault, connect, fetch_through
from nodeagent.receive.config import ReceiveConfig, ReceiverStatus
from nodeagent.receive.encryption_reports import AskEncryption, EncryptionReports
from nodeagent.receive.entries import Entries, StreamFault
from nodeagent.receive.installer import Apply, ApplyError, Installer
from nodeagent.receive.instance import instance_id
from nodeagent.receive.latest import Latest
from nodeagent.receive.messages import Failure, answer_of, evidence_of, hello_of, taken_back
from nodeagent.receive.proof import Proof
from nodeagent.receive.reports import AskEvidence, Reports, Stream, of_preview
from nodeagent.receive.store import BundleStore, HeldBundle
from nodeagent.receive.trial_file import TrialFile
from nodeagent.receive.update import update
from nodeagent.rollout.confirm import is_refused

log = structlog.get_logger()

CONNECTED: Final = "reconciler_connected"
DISCONNECTED: Final = "reconciler_disconnected"
BUNDLE_REFUSED: Final = "bundle_refused"
DISCONNECTED_REASON: Final = "Disconnected"
WORK_FOLDER: Final = "verify"
SESSION_OPEN: Final = "tidegate-session"
"""Header of an accepted stream: the reconciler let us in, though it may have nothing to announce."""

HEARS: Final = "tidegate-hears"
"""Header of an accepted stream: what it may be told beside answers and evidence."""

HEARS_ENCRYPTION: Final = "encryption"
HEARS_PREVIEW: Final = "preview"
TakeInventory = Callable[[tuple[AddressEntry, ...]], Awaitable[None]]
TakeNodeKeys = Callable[[tuple[NodeKey, ...]], Awaitable[None]]


class Receiver:
    """One agent's end of the push channel.

    `apply` returns the digest of the generation it put in force; whatever it raises is a nack.
    """

    def __init__(
        self,
        config: ReceiveConfig,
        *,
        apply: Apply,
        inventory: TakeInventory,
        evidence: AskEvidence | None = None,
        preview: AskEvidence | None = None,
        node_keys: TakeNodeKeys | None = None,
        encryption: AskEncryption | None = None,
        store: BundleStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read the trusted root and the last good bundle; raises OSError if there is no root."""
        self._config = config
        self._take_inventory = inventory
        self._ask_evidence = evidence or _no_evidence
        self._ask_preview = preview or _no_evidence
        self._take_node_keys = node_keys or _no_keys_wanted
        self._ask_encryption = encryption or (lambda: NodeEncryption(node=config.node))
        self._clock = clock
        self._root = config.root.read_bytes()
        self._store = store or BundleStore(config.state_dir, trusted_root=self._root)
        self._installer = Installer(
            self._store, TrialFile(config.state_dir), apply=apply, clock=clock
        )
        self._expiry = Expiry(lambda: self._installer.held, clock=clock)
        self._proof = Proof()
        self._instance = instance_id(config.state_dir)
        self._connected = False
        self._error = Failure("", reason="")
        self._backoff = Backoff()

    async def run(self) -> None:
        """Stay connected until cancelled."""
        shutil.rmtree(self._config.state_dir / WORK_FOLDER, ignore_errors=True)
        watches = [
            asyncio.create_task(self._expiry.watch()),
            asyncio.create_task(self._installer.watch_trial()),
        ]
        try:
            while True:
                await self._one_conversation()
                await asyncio.sleep(self._backoff.fail())
        finally:
            for watch in watches:
                watch.cancel()

    def status(self) -> ReceiverStatus:
        """The channel's state now."""
        held, trial = self._installer.held, self._installer.trial
        return ReceiverStatus(
            connected=self._connected,
            sequence=held.channels.sequence if held else 0,
            digest=held.channels.stable.digest if held else "",
            last_error=str(self._error),
            last_error_reason=self._error.reason,
            metadata_expires=held.signed.expires if held else None,
            alarms=alarms_of(
                damage=self._store.damage, trial=trial, is_expired=self._expiry.is_expired
            ),
            trial=trial,
        )

    async def _one_conversation(self) -> None:
        why = ""
        try:
            async with connect(self._config) as stub:
                await self._converse(stub)
        except grpc.aio.AioRpcError as error:
            why = f"{error.code().name}: {error.details()}"
        except asyncio.InvalidStateError:
            why = "the stream ended while we answered"
        except (OSError, StreamFault, TransientError) as error:
            why = str(error)
        if why and not self._connected:
            now = datetime.fromtimestamp(self._clock(), UTC)
            why = certificate_fault(self._config, now=now) or why
        if why:
            self._note(Failure(why, reason=DISCONNECTED_REASON))
        self._connected = False

    async def _converse(self, stub: Any) -> None:
        """All that goes on over one connection, until any part of it ends."""
        call, latest = stub.Announce(), Latest()
        stream, self._proof = Stream(call), Proof()
        encryption = EncryptionReports(stream, self._ask_encryption)
        reports = Reports(stream, self._ask)
        previews, hears_previews = Reports(stream, self._ask_preview, of_preview), asyncio.Event()
        await stream.say(
            push_pb2.AgentMessage(
                hello=hello_of(self._config, self._instance, self._installer.held)
            )
        )
        parts = [
            asyncio.create_task(self._hear(call, latest, encryption, hears_previews)),
            asyncio.create_task(self._answer_all(stub, stream, reports, latest)),
            asyncio.create_task(self._follow_inventory(stub)),
            asyncio.create_task(reports.run()),
            asyncio.create_task(previews.run(after=hears_previews)),
            asyncio.create_task(encryption.run()),
            asyncio.create_task(self._leave_when_going_back()),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _hear(
        self,
        call: Any,
        latest: Latest,
        encryption: EncryptionReports,
        hears_previews: asyncio.Event,
    ) -> None:
        headers = dict(await call.initial_metadata() or ())
        if SESSION_OPEN in headers:
            self._meet()
        heard = str(headers.get(HEARS, "")).split()
        if HEARS_ENCRYPTION in heard:
            encryption.begin()
        if HEARS_PREVIEW in heard:
            hears_previews.set()
        async for message in call:
            match message.WhichOneof("kind"):
                case "announcement":
                    latest.put(message.announcement)
                case "confirmation" if self._proof.is_given_by(message.confirmation.answer):
                    await self._installer.confirm(self._proof.sequence)
        await _raise_status(call)

    async def _leave_when_going_back(self) -> None:
        """Begin a new conversation after a flip back: what this one still delivers late is untrue by now."""
        await self._installer.going_back()
        raise TransientError("a publication was taken back")

    async def _answer_all(
        self, stub: Any, stream: Stream, reports: Reports, latest: Latest
    ) -> None:
        """Take what is announced; what could not be taken is tried again until it is superseded."""
        retry = Backoff()
        announcement = await latest.get()
        while True:
            failure = await self._take(stub, announcement)
            await reports.now()
            answer = answer_of(announcement, failure, installer=self._installer)
            self._proof = self._proof.after(answer, is_taken=failure is None)
            answer.answer = self._proof.answer
            await stream.say(push_pb2.AgentMessage(ack=answer))
            if failure is None:
                retry.succeed()
                announcement = await latest.get()
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(retry.fail() + 0.1):
                    announcement = await latest.get()
                    retry.succeed()

    async def _take(self, stub: Any, announced: push_pb2.Announcement) -> Failure | None:
        try:
            await self._installer.settle()
            if is_refused(self._installer.trial, announced.sequence):
                raise taken_back(announced.sequence, self._installer.trial)
            if self._is_held(announced):
                await self._installer.reinstate()
            else:
                await self._installer.install(await self._fetch(stub, announced))
        except RejectedBundle as error:
            return self._refuse(announced, Failure(str(error), reason=error.reason))
        except Failure as failure:
            return self._refuse(announced, failure)
        except ApplyError as error:
            return self._refuse(announced, Failure(str(error), reason="ApplyFailed"))
        except TransientError as error:
            return self._refuse(announced, Failure(str(error), reason="Unavailable"))
        except OSError as error:
            why = (
                f"{self._config.state_dir}: the bundle cannot be stored: {error.strerror or error}"
            )
            return self._refuse(announced, Failure(why, reason="StorageFailed"))
        self._error = Failure("", reason="")
        return None

    async def _fetch(self, stub: Any, announced: push_pb2.Announcement) -> HeldBundle:
        fetched = await asyncio.to_thread(
            update,
            self._root,
            self._installer.held,
            fetch_through(stub, asyncio.get_running_loop()),
            agent_version=self._config.agent_version,
            now=self._clock(),
            work_dir=self._config.state_dir / WORK_FOLDER,
        )
        if fetched.signed.version < announced.version:
            raise Failure(
                f"version {announced.version} was announced, {fetched.signed.version} is served",
                reason="Withheld",
            )
        return fetched

    async def _follow_inventory(self, stub: Any) -> None:
        call = stub.Inventory()
        await call.write(push_pb2.InventoryAck(version=0))
        entries = Entries()
        async for message in call:
            everything = entries.take(message)
            if everything is not None:
                await self._take_inventory(everything)
                if (node_keys := entries.node_keys) is not None:
                    await self._take_node_keys(node_keys)
                await call.write(push_pb2.InventoryAck(version=message.version))
        await _raise_status(call)

    def _is_held(self, announced: push_pb2.Announcement) -> bool:
        held = self._installer.held
        return (
            held is not None
            and held.signed.version == announced.version
            and held.channels.stable.digest == announced.digest
        )

    async def _ask(self) -> NodeEvidence | None:
        """What was seen of the candidate; of one that was taken back, that it was."""
        seen = await self._ask_evidence()
        return evidence_of(seen, self._installer.trial, node=self._config.node)

    def _refuse(self, announced: push_pb2.Announcement, failure: Failure) -> Failure:
        if str(failure) != str(self._error):
            log.error(
                BUNDLE_REFUSED,
                sequence=announced.sequence,
                reason=failure.reason,
                error=str(failure),
            )
        self._error = failure
        return failure

    def _meet(self) -> None:
        """The reconciler let us in."""
        self._backoff.succeed()
        if self._error.reason == DISCONNECTED_REASON:
            self._error = Failure("", reason="")
        if not self._connected:
            self._connected = True
            log.info(CONNECTED, address=self._config.address)

    def _note(self, failure: Failure) -> None:
        if self._connected or str(failure) != str(self._error):
            log.warning(DISCONNECTED, error=str(failure))
        self._error = failure


async def _no_keys_wanted(keys: tuple[NodeKey, ...]) -> None:
    """What becomes of the nodes' keys where nobody encrypts."""


async def _no_evidence() -> None:
    """A receiver without a planner has seen nothing."""


async def _raise_status(call: Any) -> None:
    """A stream that ended: why."""
    code, details = await call.code(), await call.details()
    raise TransientError(f"{code.name}: {details or 'the reconciler closed the stream'}")
