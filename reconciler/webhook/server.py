"""Listen for Git hosts that tell of a push: `POST /webhook`.

In:   a WebhookConfig; HTTP requests, over TLS if it names a certificate
Out:  `fetch()`, no more often than `pace` allows; 202, or a refusal that tells nothing
Shell over one server and the secret's file. Whether a request is believed is `proof`'s part.

Holds always:
1. The only effect is a look at the branch that is followed anyway. Nothing in a body is read: what it says
   of commits or branches could only be a lie.
2. A client is cut off at its LIMITS and after MAX_BODY_BYTES; no body is held whole.
3. Without a secret nobody is believed.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from pathlib import Path
from typing import Final

import structlog

from netpolicy.errors import StalledError
from netpolicy.one_answer_server import Answer, Limits, OneAnswerServer
from reconciler.webhook.pace import Pace
from reconciler.webhook.proof import Proof

log = structlog.get_logger()

ASKED: Final = "webhook_asked"
REFUSED: Final = "webhook_refused"

PATH: Final = "/webhook"
LIMITS: Final = Limits(patience_seconds=10.0, head_bytes=16 * 1024, clients=32)
MAX_BODY_BYTES: Final = 25 << 20
"""As much as GitHub sends."""

PIECE_BYTES: Final = 64 * 1024
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

    def __init__(
        self, config: WebhookConfig, *, fetch: Callable[[], None], limits: Limits = LIMITS
    ) -> None:
        """`fetch` has the branch looked at; it returns at once. Raises StalledError for a bad address."""
        self._config = config
        self._fetch = fetch
        self._pace = Pace()
        self._refusal_told = float("-inf")
        self._server = OneAnswerServer(config.listen, limits=limits, answer=self._answer)

    async def start(self) -> int:
        """Listen; returns the port. Raises StalledError if that, the secret or the certificate is no good."""
        _secret(self._config.secret)
        return await self._server.start(what="the webhook", tls=_tls(self._config))

    async def stop(self) -> None:
        """Listen no more."""
        await self._server.stop()

    async def _answer(self, reader: asyncio.StreamReader) -> Answer:
        status = await self._status_of(reader)
        return Answer(status=status, body=f"{status.phrase}\n".encode())

    async def _status_of(self, reader: asyncio.StreamReader) -> HTTPStatus:
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
    try:
        context.load_cert_chain(config.certificate, config.key)
    except OSError as error:  # ssl.SSLError is one: a certificate that is none
        where = f"{config.certificate}, {config.key}"
        raise StalledError(f"{where}: {error.strerror or error}") from error
    return context
