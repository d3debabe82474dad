"""Listen for the plugin on a socket that only root may open.

In:   a path, a Gate
Out:  one answer for each connection
Shell over one Unix socket.

Holds always:
1. A request is bounded in size, and must be whole within a few seconds.
2. When the plugin goes, nobody waits on for it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import structlog

from nodeagent.cni.gate import Gate
from nodeagent.cni.messages import (
    MAX_REQUEST_BYTES,
    SIZE,
    Answer,
    Outcome,
    Refusal,
    decode_request,
    encode_answer,
)

log = structlog.get_logger()

REQUEST_BROKEN: Final = "cni_request_broken"
REQUEST_SECONDS: Final = 5.0


async def serve_cni(gate: Gate, path: Path) -> asyncio.Server:
    """Listen; a socket of an earlier run is replaced. Raises OSError."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(gate, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            log.warning(REQUEST_BROKEN, error=str(error))
        finally:
            writer.close()

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    # The socket is made here: nobody else may open it, not even for a moment.
    before = os.umask(0o177)
    try:
        return await asyncio.start_unix_server(converse, path)
    finally:
        os.umask(before)


async def _converse(gate: Gate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    data = await asyncio.wait_for(_request(reader), REQUEST_SECONDS)
    try:
        request = decode_request(data)
    except Refusal as refusal:
        answer = Answer(outcome=Outcome.REFUSED, code=refusal.code, text=str(refusal))
        writer.write(encode_answer(answer))
        return
    work = asyncio.ensure_future(gate.answer(request))
    gone = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            writer.write(encode_answer(work.result()))
            await writer.drain()
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> bytes:
    (size,) = SIZE.unpack(await reader.readexactly(SIZE.size))
    if size > MAX_REQUEST_BYTES:
        raise ValueError(f"a request of {size} bytes")
    return await reader.readexactly(size)
