"""The connection to the reconciler: mTLS, and fetches that a thread can wait for.

Shell: owns the socket. Believes nothing it is told; `update` does the verifying.

Holds always:
1. Nothing is asked of a server that does not prove its name to our authority.
2. Never more bytes of a unit are kept than were signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc
from cryptography import x509

from netpolicy.errors import RejectedBundle, TransientError
from netpolicy.wire.tidegate.v1 import push_pb2, push_pb2_grpc
from nodeagent.receive.config import (
    CHANNEL_OPTIONS,
    DIGESTS_PER_FETCH,
    FETCH_SECONDS,
    UNITS_SECONDS,
    ReceiveConfig,
)
from nodeagent.receive.update import Fetch, NotServedError

T = TypeVar("T")
Stub = push_pb2_grpc.PushStub
GONE: Final = (grpc.StatusCode.NOT_FOUND,)


@asynccontextmanager
async def connect(config: ReceiveConfig) -> AsyncIterator[Any]:
    """A stub over a fresh connection; certificates are read anew, so that they may be renewed."""
    options: list[tuple[str, Any]] = list(CHANNEL_OPTIONS)
    if config.server_name:
        options.append(("grpc.ssl_target_name_override", config.server_name))
    certificate = config.certificate.read_bytes()
    credentials = grpc.ssl_channel_credentials(
        root_certificates=config.ca.read_bytes(),
        private_key=config.key.read_bytes(),
        certificate_chain=certificate,
    )
    async with grpc.aio.secure_channel(config.address, credentials, options=options) as channel:
        yield push_pb2_grpc.PushStub(channel)  # type: ignore[no-untyped-call]


def certificate_fault(config: ReceiveConfig, *, now: datetime) -> str:
    """Why the reconciler may have closed the socket without a word; empty if by our clock it had no reason.

    Asked after it did: by its clock the certificate may be good.
    """
    path = config.certificate
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        return f"{path}: not a certificate: {error}"
    begins, expires = found.not_valid_before_utc, found.not_valid_after_utc
    if expires <= now:
        return f"{path}: our certificate expired at {expires:%Y-%m-%d %H:%M} UTC; {_remedy(config)}"
    if now < begins:
        return f"{path}: by our clock our certificate is good from {begins:%Y-%m-%d %H:%M} UTC only"
    return ""


def _remedy(config: ReceiveConfig) -> str:
    if config.is_bootstrapped:
        return "another one is asked for with this pod's token: the log says why none came"
    return (
        f"where the signing keys are, run: tidegate keys renew KEYS --node {config.node};"
        " then copy its files here"
    )


def fetch_through(stub: Any, loop: asyncio.AbstractEventLoop) -> Fetch:
    """Fetches for a thread, carried out on the loop."""

    def wait(work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(work, loop).result()
        except CancelledError as error:
            raise TransientError("the connection is closing") from error

    return Fetch(
        metadata=lambda name: wait(_metadata(stub, name)),
        units=lambda wanted: wait(_units(stub, wanted)),
    )


async def _metadata(stub: Any, name: str) -> bytes:
    request = push_pb2.FetchMetadataRequest(names=[name])
    try:
        reply = await stub.FetchMetadata(request, timeout=FETCH_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() in GONE:
            raise NotServedError(name) from error
        raise TransientError(f"{error.code().name}: {error.details()}") from error
    files: Sequence[bytes] = reply.files
    if len(files) != 1:
        raise TransientError(f"{len(files)} files came for one name")
    return files[0]


async def _units(stub: Any, wanted: Sequence[tuple[str, int]]) -> dict[str, bytes]:
    units: dict[str, bytes] = {}
    for start in range(0, len(wanted), DIGESTS_PER_FETCH):
        units |= await _some_units(stub, dict(wanted[start : start + DIGESTS_PER_FETCH]))
    return units


async def _some_units(stub: Any, lengths: dict[str, int]) -> dict[str, bytes]:
    received = {digest: bytearray() for digest in lengths}
    request = push_pb2.FetchUnitsRequest(digests=list(lengths))
    try:
        async for chunk in stub.FetchUnits(request, timeout=UNITS_SECONDS):
            if chunk.digest not in received:
                raise RejectedBundle("a unit came that was not asked for", reason="Tampered")
            unit = received[chunk.digest]
            unit += chunk.data
            if len(unit) > lengths[chunk.digest]:
                raise RejectedBundle(f"unit {chunk.digest} is too long", reason="Tampered")
    except grpc.aio.AioRpcError as error:
        raise TransientError(f"units: {error.code().name}: {error.details()}") from error
    return {digest: bytes(data) for digest, data in received.items()}
