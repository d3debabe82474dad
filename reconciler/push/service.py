"""The four calls of the Push service.

Shell between gRPC and the streams' state.

Holds always:
1. A call without a node's certificate is refused before anything is read.
2. Whatever an agent sends is checked or cut to size before it goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import grpc

from netpolicy.evidence import Role
from netpolicy.trust import MAX_SEQUENCE, is_digest, is_metadata_name
from netpolicy.wire.evidence import decode_evidence
from netpolicy.wire.node_encryption import decode_node_encryption
from netpolicy.wire.tidegate.v1 import push_pb2, push_pb2_grpc
from reconciler.push.caller import Caller, caller_of
from reconciler.push.config import (
    ANSWER_PAUSE_SECONDS,
    BEGINNING_SECONDS,
    BEGINNINGS_AT_ONCE,
    HELLO_SECONDS,
    MAX_DIGESTS,
    MAX_FEEDS_PER_NODE,
    MAX_NAMES,
    MAX_REPLY_BYTES,
    UNIT_CHUNK_BYTES,
)
from reconciler.push.feed import Feed, FeedStream
from reconciler.push.observer import Ack, Hello, PushObserver
from reconciler.push.sessions import NameTakenError, Session, Sessions
from reconciler.push.shelf import Shelf
from reconciler.push.turns import Turns

MAX_TEXT: Final = 1000
MAX_CAPABILITIES: Final = 32
MAX_HELD: Final = 64 * 1024
SESSION_OPEN: Final = (("tidegate-session", "open"), ("tidegate-hears", "encryption preview"))
"""Sent when a stream is accepted, so that an agent knows before there is anything to announce. A stream
ends with a message that nobody knows: what agents may say beyond answers and evidence is said here."""

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
AgentMessages = AsyncIterator[push_pb2.AgentMessage]


class PushService(push_pb2_grpc.PushServicer):
    """Serves agents from the shelf and the feed."""

    def __init__(
        self, *, observer: PushObserver, shelf: Shelf, feed: Feed, sessions: Sessions
    ) -> None:
        self._observer = observer
        self._shelf = shelf
        self._feed = feed
        self._sessions = sessions
        self._feed_readers: dict[asyncio.Event, str] = {}
        self._beginnings = Turns(places=BEGINNINGS_AT_ONCE, seconds=BEGINNING_SECONDS)
        self._is_stopping = False

    def wake_feeds(self) -> None:
        """Let every inventory stream look for what changed."""
        for reader in self._feed_readers:
            reader.set()

    def stop(self) -> None:
        """Let every stream finish."""
        self._is_stopping = True
        self._sessions.close_all()
        self.wake_feeds()

    async def Announce(self, request_iterator: AgentMessages, context: Context) -> None:
        """Announce publications to one agent until it leaves, or its certificate ends."""
        caller = await self._caller(context)
        node = caller.node
        hello = await _first_hello(request_iterator, context)
        if why_not := self._observer.cannot_serve(hello):
            await context.abort(grpc.StatusCode.UNAVAILABLE, why_not)
        try:
            session = self._sessions.open(node, hello)
        except NameTakenError as error:
            self._observer.agent_refused(node, str(error))
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
        self._observer.agent_connected(node, hello)
        answers = asyncio.create_task(self._hear(session, request_iterator))
        expiry = asyncio.get_running_loop().call_later(caller.seconds_left, session.end)
        try:
            await context.send_initial_metadata(SESSION_OPEN)
            await self._announce(session, context)
        finally:
            expiry.cancel()
            answers.cancel()
            if self._sessions.close(session):
                self._observer.agent_disconnected(node)

    async def FetchMetadata(
        self, request: push_pb2.FetchMetadataRequest, context: Context
    ) -> push_pb2.FetchMetadataReply:
        """Serve signed files by name."""
        await self._caller(context)
        names = request.names
        if len(names) > MAX_NAMES or not all(map(is_metadata_name, names)):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such names")
        files = []
        for name in names:
            data = self._shelf.metadata(name)
            if data is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, name)
            files.append(data)
        if sum(map(len, files)) > MAX_REPLY_BYTES - 1024:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "ask for fewer at once")
        return push_pb2.FetchMetadataReply(files=files)

    async def FetchUnits(
        self, request: push_pb2.FetchUnitsRequest, context: Context
    ) -> AsyncIterator[push_pb2.UnitChunk]:
        """Serve targets by digest, in bounded chunks."""
        await self._caller(context)
        digests = request.digests
        if len(digests) > MAX_DIGESTS or not all(map(is_digest, digests)):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such digests")
        for digest in digests:
            data = self._shelf.unit(digest)
            if data is None:
                await context.abort(grpc.StatusCode.NOT_FOUND, digest)
            last = max(0, len(data) - 1) // UNIT_CHUNK_BYTES
            for number in range(last + 1):
                piece = data[number * UNIT_CHUNK_BYTES : (number + 1) * UNIT_CHUNK_BYTES]
                yield push_pb2.UnitChunk(digest=digest, data=piece, last=number == last)

    async def Inventory(
        self, request_iterator: AsyncIterator[push_pb2.InventoryAck], context: Context
    ) -> None:
        """Feed one agent until it leaves, or its certificate ends: a version, its answer, the next one."""
        caller = await self._caller(context)
        node, loop = caller.node, asyncio.get_running_loop()
        ends = loop.time() + caller.seconds_left
        if list(self._feed_readers.values()).count(node) >= MAX_FEEDS_PER_NODE:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many inventory streams")
        stream = FeedStream(self._feed)
        changed = asyncio.Event()
        self._feed_readers[changed] = node
        expiry = loop.call_at(ends, changed.set)
        try:
            while not self._is_stopping and loop.time() < ends:
                changed.clear()
                if stream.begins:
                    async with self._beginnings.turn():
                        sent = await _send(stream, context)
                else:
                    sent = await _send(stream, context)
                if sent == 0:
                    await changed.wait()
                elif not await _is_answered(request_iterator, sent):
                    return
        finally:
            expiry.cancel()
            del self._feed_readers[changed]

    async def _caller(self, context: Context) -> Caller:
        """Who calls, by its certificate; ends the call if that says nobody."""
        found = caller_of(context.auth_context(), now=datetime.now(UTC))
        if isinstance(found, str):
            self._observer.agent_refused("", found)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, found)
        return found

    async def _announce(self, session: Session, context: Context) -> None:
        latest = self._shelf.latest
        if latest is not None:
            session.outbox.offer(latest)
        while (message := await session.next_message()) is not None:
            await context.write(message)

    async def _hear(self, session: Session, messages: AgentMessages) -> None:
        """Pass on what the agent says; the stream is over when that ends, or makes no sense."""
        try:
            async for message in messages:
                if session.is_over or not self._take(session, message):
                    return
                await asyncio.sleep(ANSWER_PAUSE_SECONDS)
        finally:
            session.end()

    def _take(self, session: Session, message: push_pb2.AgentMessage) -> bool:
        match message.WhichOneof("kind"):
            case "ack":
                if not session.answered(message.ack.nonce, message.ack.answer):
                    return False
                # Before the confirmation goes out, which nothing here waits for.
                self._observer.agent_acked(session.node, _ack(message.ack))
                return True
            case "evidence" | "preview" as kind:
                try:
                    evidence = decode_evidence(session.node, getattr(message, kind))
                except ValueError:
                    return False
                told = self._observer.evidence if kind == "evidence" else self._observer.preview
                told(session.node, evidence)
                return True
            case "encryption":
                try:
                    said = decode_node_encryption(session.node, message.encryption)
                except ValueError as error:
                    why = f"what it says of its encryption makes no sense: {error}"
                    self._observer.agent_refused(session.node, why)
                    return False
                self._observer.encryption(session.node, said)
                return True
        return False


async def _first_hello(messages: AgentMessages, context: Context) -> Hello:
    first = push_pb2.AgentMessage()
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(HELLO_SECONDS):
            first = await anext(messages)
    if first.WhichOneof("kind") != "hello" or not first.hello.instance:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a stream begins with hello")
    return _hello(first.hello)


async def _send(stream: FeedStream, context: Context) -> int:
    """Bring a stream to the latest version; returns it, or 0 if it was there."""
    sent = 0
    for message in stream.messages():
        await context.write(message)
        sent = stream.sent
    return sent


async def _is_answered(answers: AsyncIterator[push_pb2.InventoryAck], version: int) -> bool:
    """Wait for the agent to have taken a version; False if it left."""
    async for answer in answers:
        if answer.version == version:
            return True
    return False


def _hello(message: push_pb2.Hello) -> Hello:
    return Hello(
        instance=_text(message.instance),
        agent_version=_text(message.agent_version),
        capabilities=tuple(map(_text, message.capabilities[:MAX_CAPABILITIES])),
        sequence=_sequence(message.sequence),
        digest=_digest(message.digest),
        version=message.version,
        held=message.held if len(message.held) <= MAX_HELD else b"",
    )


def _ack(message: push_pb2.Ack) -> Ack:
    return Ack(
        sequence=_sequence(message.sequence),
        digest=_digest(message.digest),
        applied_at=message.applied_at_us / 1e6,
        generation_digest=_digest(message.generation_digest),
        error=_text(message.error),
        reason=_text(message.reason),
        refused_sequence=_sequence(message.refused_sequence),
        role=_role(message.role),
        candidate_generation_digest=_digest(message.candidate_generation_digest),
    )


def _text(text: str) -> str:
    """An agent's words, fit for a log and a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT])


def _sequence(number: int) -> int:
    """A number that a publication can have, or 0: an agent that says another holds none of ours."""
    return number if number <= MAX_SEQUENCE else 0


def _digest(text: str) -> str:
    return text if is_digest(text) else ""


def _role(text: str) -> Role:
    """An agent's role, or none: one that says another word does nothing that we know of."""
    return Role(text) if text in list(Role) else Role.NONE
