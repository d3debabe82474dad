"""Command lines of the programs that run inside pods (see demo.workload).

Pure.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.world_topology import DATABASE_PORT, WorldPod

PROBE_SECONDS: Final = 1.25
"""How long a probe waits: long enough for one lost SYN to be sent again."""

_WORKLOAD: Final = (sys.executable, "-m", "demo.workload")


def target(pod: WorldPod, address: str) -> str:
    """What a client is told to talk to: the pod's server at one of its addresses."""
    return f"{_kind(pod)}:{address}:{pod.port}"


def serve_command(pod: WorldPod) -> list[str]:
    """The pod's own server."""
    return [*_WORKLOAD, "serve", _kind(pod), pod.name, "--port", str(pod.port)]


def probe_command(targets: Sequence[str], *, timeout: float = PROBE_SECONDS) -> list[str]:
    """Try each target once."""
    return [*_WORKLOAD, "probe", str(timeout), *targets]


def stream_command(
    to: str, *, log: Path, fresh: bool = False, interval: float = 0.02, timeout: float = 1.0
) -> list[str]:
    """Ask without end."""
    return [
        *_WORKLOAD,
        "stream",
        to,
        "--log",
        str(log),
        "--interval",
        str(interval),
        "--timeout",
        str(timeout),
        *(["--fresh"] if fresh else []),
    ]


def _kind(pod: WorldPod) -> str:
    return "line" if pod.port == DATABASE_PORT else "http"
