"""Listen for Git hosts that tell of a push: `POST /webhook`.

In:   a WebhookConfig; HTTP requests, over TLS if it names a certificate
Out:  `fetch()`, no more often than `pace` allows; 202, or a refusal that tells nothing
Shell over one socket and the secret's file. Whether a request is believed is `proof`'s part.

Holds always:
1. The only effect is a look at the branch that is followed anyway. Nothing in a body is read: what it says
   of commits or branches could only be a lie.
2. A client is cut off after PATIENCE_SECONDS, MAX_HEAD_BYTES and MAX_BODY_BYTES; no body is held whole;
   at most MAX_CLIENTS are served.
3. Without a secret nobody is believed.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from pathlib import Path
from typing import Final

import structlog

from netpolicy.errors import StalledError
from netpolicy.status_pages import listening_socket, parse_listen
from reconciler.webhook.pace import Pace
from reconciler.webhook.proof import Proof

log = structlog.get_logger()

ASKED: Final = "webhook_asked"
REFUSED: Final = "webhook_refused"

PATH: Final = "/webhook"
PATIENCE_SECONDS: Final = 10.0
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_BODY_BYTES: Final = 25 << 20
"""As much as GitHub sends."""

PIECE_BYTES: Final = 64 * 1024
MAX_CLIENTS: Final = 32
LEAST_SECRET_BYTES: Final = 16
REFUSALS_TOLD_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """Where it listens, and the files that hold the secret and, for TLS, a certificate and its key."""

    listen: str
    secret: Path
    certificate: Path | None = None
    key: Path | None = None


class WebhookServer:
    """The webhook of one reconciler."""

    def __init__(self, config: WebhookConfig, *, fetch: Callable[[], None]) -> None:
        """`fetch` has the branch looked at; it returns at once. Raises StalledError for a bad address."""
        self._config = config
        self._fetch = fetch
        self._host, self._port = parse_listen(config.listen)
        self._pace = Pace()
        self._clients = 0
        self._refusal_told = float("-inf")
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises StalledError if that, or the secret, is no good."""
        _secret(self._config.secret)
        try:
            tls = _tls(self._config)
            self._server = await asyncio.start_server(
                self._serve,
                sock=listening_socket(self._host, self._port),
                limit=MAX_HEAD_BYTES,
                ssl=tls,
                ssl_handshake_timeout=PATIENCE_SECONDS if tls else None,
            )
        except OSError as error:  # ssl.SSLError is one: a certificate that is none
            where = f"{self._host}:{self._port}"
            raise StalledError(f"cannot serve the webhook on {where}: {error.strerror}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._clients <= MAX_CLIENTS:
                    writer.write(_response(await self._answer(reader)))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's affair: it gets no answer
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> HTTPStatus:
        head = await reader.readuntil(b"\r\n\r\n")
        request, _, rest = head.partition(b"\r\n")
        method, _, target = request.partition(b" ")
        if target.split(b" ", 1)[0].decode("latin-1") != PATH:
            return HTTPStatus.NOT_FOUND
        if method != b"POST":
            return HTTPStatus.METHOD_NOT_ALLOWED
        try:
            headers = {k.lower(): v for k, v in parse_headers(io.BytesIO(rest)).items()}
            length = _length(headers)
        except (HTTPException, ValueError):
            return HTTPStatus.BAD_REQUEST
        if length is None:
            return HTTPStatus.LENGTH_REQUIRED
        if length > MAX_BODY_BYTES:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return await self._judge(headers, reader, length)

    async def _judge(
        self, headers: Mapping[str, str], reader: asyncio.StreamReader, length: int
    ) -> HTTPStatus:
        try:
            secret = _secret(self._config.secret)  # now, as it may be another than at the start
        except StalledError as error:
            log.error(REFUSED, error=str(error))
            return HTTPStatus.SERVICE_UNAVAILABLE
        proof = Proof(headers, secret)
        while length:
            piece = await reader.read(min(length, PIECE_BYTES))
            if not piece:
                return HTTPStatus.BAD_REQUEST
            proof.take(piece)
            length -= len(piece)
        if not proof.holds():
            self._tell_refusal()
            return HTTPStatus.UNAUTHORIZED
        self._ask()
        return HTTPStatus.ACCEPTED

    def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._pace.ask(loop.time())
        if pause is not None:
            log.info(ASKED, in_seconds=round(pause, 1))
            loop.call_later(pause, self._fetch)

    def _tell_refusal(self) -> None:
        """Once a minute: whoever likes to may send requests, and must not fill the log by it."""
        now = asyncio.get_running_loop().time()
        if now - self._refusal_told >= REFUSALS_TOLD_SECONDS:
            self._refusal_told = now
            log.warning(REFUSED, error="the signature or token is missing or wrong")


def _length(headers: Mapping[str, str]) -> int | None:
    """How long the body is; None if that is not said. Raises ValueError for what is no length."""
    text = headers.get("content-length")
    if text is None or "transfer-encoding" in headers:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


def _secret(path: Path) -> bytes:
    """The secret. Raises StalledError if there is none, or one that could be guessed."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error
    if len(secret) < LEAST_SECRET_BYTES:
        raise StalledError(f"{path}: a secret has {LEAST_SECRET_BYTES} bytes or more")
    return secret


def _tls(config: WebhookConfig) -> ssl.SSLContext | None:
    if config.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.certificate, config.key)
    return context


def _response(status: HTTPStatus) -> bytes:
    body = f"{status.phrase}\n"
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode("ascii")
