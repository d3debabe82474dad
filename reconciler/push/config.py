"""What the push server is told, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_REQUEST_BYTES: Final = 256 * 1024
"""Above the largest evidence (`netpolicy.wire.evidence`)."""

MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
UNIT_CHUNK_BYTES: Final = 256 * 1024
MAX_NAMES: Final = 64
MAX_DIGESTS: Final = 512
MAX_FEEDS_PER_NODE: Final = 16
"""More than an agent's broken connections leave behind until they are noticed."""

BEGINNINGS_AT_ONCE: Final = 32
BEGINNING_SECONDS: Final = 10.0
"""How many streams are sent the whole inventory at once, and how long one may keep others from it."""

ANSWER_PAUSE_SECONDS: Final = 0.05
"""Between two answers of one stream: each is logged and saved, and none may crowd out the others."""

HELLO_SECONDS: Final = 10.0
STOP_SECONDS: Final = 0.5

SERVER_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a lottery
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_REPLY_BYTES),
    ("grpc.max_concurrent_streams", 32),
    # A dead node is noticed within half a minute; its name is free again then.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # By default a fleet that fetches all at once has 40 % of its calls cancelled.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """Where to listen (`host:port`, port 0 for any) and the paths of PEM files for mTLS."""

    listen: str
    certificate: Path
    key: Path
    client_ca: Path

    @classmethod
    def of_keys(cls, directory: Path, *, listen: str) -> PushConfig:
        """The files as `tidegate keys init` lays them down."""
        tls = directory / "tls"
        return cls(
            listen=listen,
            certificate=tls / "server.pem",
            key=tls / "server.key",
            client_ca=tls / "ca.pem",
        )
