"""Find Envoy's program, start it so that it outlives the agent, and end it.

In:   EnvoySettings
Out:  a process
Shell over processes.

Holds always:
1. Envoy is told no port of its own and no shared memory: many may run on one machine.
2. What it says of itself goes to a file of bounded size.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from netpolicy.durable_files import make_folder
from netpolicy.errors import StalledError
from nodeagent.envoy.settings import EnvoySettings

NO_ENVOY: Final = "NoEnvoy"
MAX_LOG_BYTES: Final = 8 << 20
DRAIN_SECONDS: Final = 10
"""How long a listener that is left out has for requests that are under way."""

_PROGRAM: Final = "envoy"


def find_binary(settings: EnvoySettings) -> Path:
    """The program: as set, else on PATH, else beside Python's. Raises StalledError if there is none."""
    if settings.binary is not None:
        if os.access(settings.binary, os.X_OK):
            return settings.binary
        raise StalledError(f"{settings.binary} (envoy.path) is no program", reason=NO_ENVOY)
    beside = Path(sys.executable).parent / _PROGRAM
    found = shutil.which(_PROGRAM)
    if found is not None:
        return Path(found)
    if os.access(beside, os.X_OK):
        return beside
    raise StalledError(
        f"there is no Envoy: neither `{_PROGRAM}` on PATH nor {beside}; install it, or set envoy.path",
        reason=NO_ENVOY,
    )


def start(binary: Path, settings: EnvoySettings) -> subprocess.Popen[bytes]:
    """Start Envoy in a session of its own. Raises StalledError if the program does not run at all."""
    make_folder(settings.folder)
    bound_log(settings.log)
    with settings.log.open("ab") as log:
        try:
            return subprocess.Popen(
                [
                    str(binary),
                    *("--config-path", str(settings.bootstrap)),
                    *("--concurrency", str(settings.workers)),
                    *("--drain-time-s", str(DRAIN_SECONDS)),
                    *("--log-level", "warning"),
                    "--disable-hot-restart",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise StalledError(
                f"{binary} does not start: {error.strerror}", reason=NO_ENVOY
            ) from error


def end(pid: int) -> None:
    """End a process at once; its connections are reset. One of another container (0) is not ours to end."""
    if pid == 0:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def bound_log(path: Path) -> None:
    """Empty a log that has grown too long. Envoy appends to it, so it goes on from the start."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG_BYTES:
            os.truncate(path, 0)
