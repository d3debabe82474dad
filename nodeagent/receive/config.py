"""What the receiver is told, what it says of itself, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from nodeagent.rollout.confirm import Trial

MAX_MESSAGE_BYTES: Final = 9 * 1024 * 1024
DIGESTS_PER_FETCH: Final = 500
FETCH_SECONDS: Final = 30.0
UNITS_SECONDS: Final = 120.0
EXPIRY_CHECK_SECONDS: Final = 30.0
MAX_INVENTORY_ENTRIES: Final = 1_000_000
MAX_NODES: Final = 50_000
MAX_LABEL_SETS: Final = 1_000_000
MAX_LABELS: Final = 16_000_000
FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 30.0

CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Each dial is a fresh one: the jitter is ours, not that of a pool shared with the last dial.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveConfig:
    """Where the reconciler is, how to know it, who we are. Paths are PEM files; `root` is TUF's.

    `server_name`: the name its certificate must carry, if not the host of `address`. `is_bootstrapped`: our
    own certificate is had for a token, not laid out by people.
    """

    node: str
    address: str
    server_name: str
    ca: Path
    certificate: Path
    key: Path
    root: Path
    state_dir: Path
    agent_version: str
    is_bootstrapped: bool = False
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatus:
    """The channel's state. `sequence` 0 and empty `digest`: no bundle yet.

    `alarms` need a person: they say what is wrong, and that the last good policy stays in force.
    `trial`: whether the last flip was confirmed.
    """

    connected: bool
    sequence: int
    digest: str
    last_error: str
    last_error_reason: str
    metadata_expires: datetime | None
    alarms: tuple[str, ...]
    trial: Trial = field(default_factory=Trial)
