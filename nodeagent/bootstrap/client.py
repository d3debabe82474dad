"""Ask the reconciler for a certificate.

In:   BootstrapConfig, a request (PKCS #10)
Out:  the certificate's bytes, or TransientError
Shell: owns one connection a question. The token is read anew each time: the kubelet renews it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from netpolicy.durable_files import read_bounded
from netpolicy.errors import TransientError
from netpolicy.wire.tidegate.v1 import bootstrap_pb2, bootstrap_pb2_grpc

ANSWER_SECONDS: Final = 30.0
MAX_TOKEN_BYTES: Final = 16 * 1024
MAX_MESSAGE_BYTES: Final = 16 * 1024
OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapConfig:
    """Where certificates are given, how that is known to be the reconciler, who we are.

    `credential` is where our own is kept; `server_name` as in ReceiveConfig.
    """

    node: str
    address: str
    server_name: str
    ca: Path
    token: Path
    credential: Path


async def ask(config: BootstrapConfig, request: bytes) -> bytes:
    """The certificate (DER) that is given for a request."""
    try:
        token = (
            read_bounded(config.token, max_bytes=MAX_TOKEN_BYTES).decode(errors="replace").strip()
        )
    except OSError as error:
        raise TransientError(f"the service account's token cannot be read: {error}") from error
    options = [*OPTIONS]
    if config.server_name:
        options.append(("grpc.ssl_target_name_override", config.server_name))
    credentials = grpc.ssl_channel_credentials(root_certificates=config.ca.read_bytes())
    question = bootstrap_pb2.IssueRequest(token=token, request=request)
    async with grpc.aio.secure_channel(config.address, credentials, options=options) as channel:
        stub = bootstrap_pb2_grpc.BootstrapStub(channel)  # type: ignore[no-untyped-call]
        try:
            answer = await stub.Issue(question, timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise TransientError(f"{error.code().name}: {error.details()}") from error
    certificate: bytes = answer.certificate
    return certificate
