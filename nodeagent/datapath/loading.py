"""Have the datapath loaded, by a process of its own.

In:   DatapathConfig
Out:  LoadOutcome: what `nodeagent.datapath.loader` found and did
Shell over that child process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Final

from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.pins import DatapathConfig, current_version, version_of

LOAD_SECONDS: Final = 240.0
"""Seconds where nothing else runs, but this is when a node has most to do: nothing is lost by waiting."""


class LoadOutcome(StrEnum):
    """What the loader found and did."""

    ADOPTED = "adopted"
    LOADED = "loaded"
    REPLACED = "replaced"


def ensure_loaded(config: DatapathConfig) -> LoadOutcome:
    """Have the object pinned and current; the work is done by a child process."""
    if current_version(config.bpffs) == version_of(config):
        return LoadOutcome.ADOPTED
    command = [
        sys.executable, "-m", "nodeagent.datapath.loader",
        "--bpffs", str(config.bpffs),
        "--object", str(config.object_path),
        "--conntrack-entries", str(config.conntrack_entries),
        "--options", json.dumps(asdict(config.options)),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LOAD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatapathError(f"the loader did not run: {error}") from error
    if done.returncode:
        raise DatapathError(f"the loader failed: {done.stderr.strip() or done.returncode}")
    return LoadOutcome(done.stdout.strip())
