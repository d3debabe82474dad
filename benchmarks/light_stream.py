"""An inventory stream by hand: what an agent's sends and reads on the wire, at a tenth of gRPC's cost.

In:   a connection to the reconciler's push port, by a node's certificate
Out:  each message's bytes, to whoever takes it; the answers that it gives
Shell over one connection. A thousand agents of a benchmark share processors with what is measured, and a
client that builds objects of each message would use more of them than the server. Frames are those of HTTP/2
(RFC 9113), messages those of gRPC over it. Windows are opened once, as wide as they go.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.config import ReceiveConfig

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_HEAD: Final = 9
MESSAGE_HEAD: Final = 5
STREAM: Final = 1
WIDEST: Final = (1 << 31) - 1
FIRST_WINDOW: Final = 65_535
INITIAL_WINDOW_SIZE: Final = 4
REQUEST: Final = (
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":path", b"/tidegate.v1.Push/Inventory"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)

Take = Callable[[bytes], int]
"""Takes a message; returns the version that it completes, which is answered then, or 0."""


async def stream(config: ReceiveConfig, take: Take) -> None:
    """Follow the inventory until the connection ends, however it ends."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    host, _, port = config.address.rpartition(":")
    transport, _ = await asyncio.get_running_loop().create_connection(
        lambda: _Stream(take, ended),
        host,
        int(port),
        ssl=_context(config),
        server_hostname=config.server_name,
        ssl_handshake_timeout=180.0,  # a thousand dial at once
    )
    try:
        await ended
    finally:
        transport.abort()


class _Stream(asyncio.Protocol):
    def __init__(self, take: Take, ended: asyncio.Future[None]) -> None:
        self._take = take
        self._ended = ended
        self._frames = bytearray()
        self._messages = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        wide = INITIAL_WINDOW_SIZE.to_bytes(2) + WIDEST.to_bytes(4)
        transport.write(
            PREFACE
            + _frame(SETTINGS, wide)
            + _frame(WINDOW_UPDATE, (WIDEST - FIRST_WINDOW).to_bytes(4))
            + _frame(HEADERS, b"".join(_literal(*header) for header in REQUEST), END_HEADERS)
        )
        self._answer(0)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self._ended.done():
            self._ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._frames += data
        place, whole = 0, len(self._frames)
        while whole - place >= FRAME_HEAD:
            head = self._frames[place : place + FRAME_HEAD]
            end = place + FRAME_HEAD + int.from_bytes(head[:3])
            if end > whole:
                break
            self._take_frame(head[3], head[4], bytes(self._frames[place + FRAME_HEAD : end]))
            place = end
        del self._frames[:place]

    def _take_frame(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == DATA:  # gRPC pads nothing
            self._messages += payload
            self._take_messages()
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, payload, ACK))
        elif kind == SETTINGS and not flags & ACK:
            self._transport.write(_frame(SETTINGS, b"", ACK))
        elif kind in (RST_STREAM, GOAWAY) or (kind == HEADERS and flags & END_STREAM):
            self._transport.abort()

    def _take_messages(self) -> None:
        while len(self._messages) >= MESSAGE_HEAD:
            end = MESSAGE_HEAD + int.from_bytes(self._messages[1:MESSAGE_HEAD])
            if end > len(self._messages):
                return
            message = bytes(self._messages[MESSAGE_HEAD:end])
            del self._messages[:end]
            if version := self._take(message):
                self._answer(version)

    def _answer(self, version: int) -> None:
        message = push_pb2.InventoryAck(version=version).SerializeToString()
        self._transport.write(_frame(DATA, b"\0" + len(message).to_bytes(4) + message))


def _frame(kind: int, payload: bytes, flags: int = 0) -> bytes:
    stream_id = STREAM if kind in (DATA, HEADERS) else 0  # else it is about the connection
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream_id.to_bytes(4) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header that no table keeps (RFC 7541 section 6.2.2), in short texts."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def _context(config: ReceiveConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(config.ca))
    context.load_cert_chain(config.certificate, config.key)
    context.set_alpn_protocols(["h2"])
    return context
