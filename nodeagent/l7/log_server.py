"""Take in Envoy's access log, on a unix socket that only the agent's user may open.

In:   the entries that Envoy sends (envoy.service.accesslog.v3)
Out:  judged requests and refused connections, a batch a message
Shell over one socket; one event loop.

Holds always:
1. Nothing waits here: what cannot be taken in at once stays with Envoy, which has a bound and counts what
   it drops beyond.
2. A stream that makes no sense is ended, and what came before on it stands.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from netpolicy.rules import Direction
from netpolicy.wire.envoy.v3 import access_log_pb2 as pb
from netpolicy.wire.envoy.v3 import access_log_pb2_grpc
from nodeagent.l7.access_log import log_name
from nodeagent.l7.requests import JudgedRequest, judged_request, refused_connection

log = structlog.get_logger()

STREAM_REFUSED: Final = "access_log_stream_refused"
MAX_MESSAGE_BYTES: Final = 4 << 20
"""Envoy sends 64 KiB and one entry at most; the first message names its extensions too."""
_DIRECTION_OF_LOG: Final = {log_name(direction): direction for direction in Direction}

Take = Callable[[Sequence[JudgedRequest]], None]
Context = grpc.aio.ServicerContext[Any, Any]


class AccessLogService(access_log_pb2_grpc.AccessLogServiceServicer):
    """One stream a worker of Envoy and a direction."""

    def __init__(self, take: Take) -> None:
        self._take = take

    async def StreamAccessLogs(
        self, messages: AsyncIterator[pb.StreamAccessLogsMessage], context: Context
    ) -> pb.StreamAccessLogsResponse:
        """Take what comes, until Envoy ends the stream."""
        direction: Direction | None = None
        async for message in messages:
            if direction is None:  # only the first message says it
                direction = _DIRECTION_OF_LOG.get(message.identifier.log_name)
            if direction is None:
                log.error(STREAM_REFUSED, log_name=message.identifier.log_name[:64])
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such log")
            else:
                self._take(_judged(message, direction))
        return pb.StreamAccessLogsResponse()


def _judged(message: pb.StreamAccessLogsMessage, direction: Direction) -> list[JudgedRequest]:
    requests = [judged_request(entry, direction) for entry in message.http_logs.log_entry]
    refused = [refused_connection(entry, direction) for entry in message.tcp_logs.log_entry]
    return requests + refused


async def serve_access_log(take: Take, socket: Path) -> grpc.aio.Server:
    """Listen on the socket; a stale one of an earlier run is replaced."""
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),))
    access_log_pb2_grpc.add_AccessLogServiceServicer_to_server(  # type: ignore[no-untyped-call]
        AccessLogService(take), server
    )
    # The socket is made here: nobody else may open it, not even for a moment.
    before = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{socket}")
    finally:
        os.umask(before)
    await server.start()
    return server
