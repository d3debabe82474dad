"""The gRPC server that agents get their certificates from.

In:   tokens and requests for certificates
Out:  certificates that end soon
Shell: owns the socket. Which node a token speaks for, `speaker` decides; what is certified, `csr`.

Holds always:
1. Nobody is certified before the API server has said who asks.
2. Whoever asks too often waits, and nobody else does; no more than so many requests are under way.
3. No token and no key is logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from netpolicy.errors import StalledError, TransientError
from netpolicy.wire.tidegate.v1 import bootstrap_pb2, bootstrap_pb2_grpc
from reconciler.bootstrap.allowance import Allowance
from reconciler.bootstrap.csr import requested_key
from reconciler.bootstrap.refused import Refused, Why
from reconciler.server_certificate import ServerCertificate

log = structlog.get_logger()

CERTIFICATE_ISSUED: Final = "certificate_issued"
CERTIFICATE_REFUSED: Final = "certificate_refused"

LIFETIME: Final = timedelta(hours=24)
MOST_AT_ONCE: Final = 64
ANSWER_SECONDS: Final = 20.0
MAX_MESSAGE_BYTES: Final = 16 * 1024
STOP_SECONDS: Final = 0.5
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 8),
    # One question a connection: whoever holds more than that open is not one of ours.
    ("grpc.max_connection_idle_ms", 30_000),
    ("grpc.max_connection_age_ms", 60_000),
)
STATUS: Final = {
    Why.NOT_AN_AGENT: grpc.StatusCode.UNAUTHENTICATED,
    Why.ANOTHER_NODE: grpc.StatusCode.PERMISSION_DENIED,
    Why.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Why.TOO_OFTEN: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Certify = Callable[[str, EllipticCurvePublicKey, datetime, timedelta], x509.Certificate]
"""Node, key, now, lifetime → certificate; raises StalledError if there is no authority."""


class Speakers(Protocol):
    """Who knows which node a token speaks for."""

    async def node_of(self, token: str) -> str:
        """The node; raises Refused or TransientError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    """Where to listen, and the PEM files that the server proves itself with."""

    listen: str
    certificate: Path
    key: Path


class BootstrapServer:
    """Answers agents that have no certificate, or one that ends soon."""

    def __init__(
        self,
        config: BootstrapConfig,
        *,
        speakers: Speakers,
        certify: Certify,
        lifetime: timedelta = LIFETIME,
    ) -> None:
        self._config = config
        self._servicer = _Servicer(speakers, certify, lifetime)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen; returns the port. Raises StalledError if certificate or address do not serve."""
        server = grpc.aio.server(options=OPTIONS)
        bootstrap_pb2_grpc.add_BootstrapServicer_to_server(self._servicer, server)  # type: ignore[no-untyped-call]
        credentials = ServerCertificate(self._config.certificate, self._config.key).credentials()
        try:
            port = server.add_secure_port(self._config.listen, credentials)
        except (OSError, RuntimeError) as error:
            raise StalledError(f"cannot listen for agents: {error}") from error
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Close the socket."""
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
            self._server = None


class _Servicer(bootstrap_pb2_grpc.BootstrapServicer):
    def __init__(self, speakers: Speakers, certify: Certify, lifetime: timedelta) -> None:
        self._speakers = speakers
        self._certify = certify
        self._lifetime = lifetime
        self._under_way = 0
        # A proxy before us may stand for many nodes, hence the many; each token costs the API server.
        self._of_address = Allowance(burst=50, per_second=10.0)
        self._of_node = Allowance(burst=5, per_second=0.1)

    async def Issue(self, request: Any, context: Any) -> bootstrap_pb2.IssueReply:
        peer = _address(context.peer())
        try:
            with self._place(peer):
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await self._issue(request, peer)
        except Refused as refused:
            log.warning(CERTIFICATE_REFUSED, peer=peer, why=str(refused))
            await context.abort(STATUS[refused.why], str(refused))
        except (TransientError, StalledError, TimeoutError) as error:
            log.error(CERTIFICATE_REFUSED, peer=peer, why=str(error) or "no answer in time")
            await context.abort(
                grpc.StatusCode.UNAVAILABLE, "the reconciler cannot find out who you are now"
            )
        raise AssertionError("unreachable: abort raises")

    @contextmanager
    def _place(self, peer: str) -> Any:
        """One of the places for requests under way."""
        if self._under_way >= MOST_AT_ONCE:
            raise Refused(Why.TOO_OFTEN, "too many ask at once")
        if not self._of_address.take(peer, now=time.monotonic()):
            raise Refused(Why.TOO_OFTEN, "too many requests come from this address")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _issue(self, request: Any, peer: str) -> bootstrap_pb2.IssueReply:
        node = await self._speakers.node_of(request.token)
        if not self._of_node.take(node, now=time.monotonic()):
            raise Refused(Why.TOO_OFTEN, f"{node} asks too often")
        key = requested_key(request.request, node=node)
        certificate = self._certify(node, key, datetime.now(UTC), self._lifetime)
        log.info(
            CERTIFICATE_ISSUED,
            agent=node,
            peer=peer,
            serial=f"{certificate.serial_number:x}",
            until=certificate.not_valid_after_utc.isoformat(),
        )
        return bootstrap_pb2.IssueReply(certificate=certificate.public_bytes(Encoding.DER))


def _address(peer: str) -> str:
    """`ipv4:192.0.2.1:1234` without the port."""
    return peer.rpartition(":")[0]
