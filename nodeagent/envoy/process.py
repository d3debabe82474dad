"""Find Envoy's program, start it so that it outlives the agent, and end it.

In:   EnvoySettings
Out:  a process
Shell over processes.

Holds always:
1. Envoy is told no port of its own and no shared memory: many may run on one machine.
2. What it says of itself goes to a file of bounded size, and no file that it writes grows beyond a bound:
   writes beyond fail, which it counts, and goes on.
3. Its files are their owner's alone.
"""

from __future__ import annotations

import os
import resource
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
from nodeagent.l7.access_log import FLUSH_SECONDS

NO_ENVOY: Final = "NoEnvoy"
MAX_LOG_BYTES: Final = 8 << 20
MAX_FILE_BYTES: Final = 32 << 20
"""Of its access log, if nobody reads it: some seventy thousand requests."""
DRAIN_SECONDS: Final = 10
"""How long a listener that is left out has for requests that are under way."""

_PROGRAM: Final = "envoy"
_OWNER_ONLY: Final = 0o077
_MILLISECONDS: Final = 1000


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
    make_folder(settings.access_log.parent)
    bound_log(settings.log)
    with settings.log.open("ab") as log:
        try:
            started = subprocess.Popen(
                [
                    str(binary),
                    *("--config-path", str(settings.bootstrap)),
                    *("--concurrency", str(settings.workers)),
                    *("--drain-time-s", str(DRAIN_SECONDS)),
                    *("--log-level", "warning"),
                    *("--file-flush-interval-msec", str(round(FLUSH_SECONDS * _MILLISECONDS))),
                    "--disable-hot-restart",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=_OWNER_ONLY,
                # As in Python, SIGXFSZ is ignored in it: a write beyond the bound fails, and ends nothing.
                restore_signals=False,
            )
        except OSError as error:
            raise StalledError(
                f"{binary} does not start: {error.strerror}", reason=NO_ENVOY
            ) from error
    _bound_files(started)
    return started


def end(pid: int) -> None:
    """End a process at once; its connections are reset. One of another container (0) is not ours to end."""
    if pid == 0:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _bound_files(started: subprocess.Popen[bytes]) -> None:
    bounds = (MAX_FILE_BYTES, MAX_FILE_BYTES)
    try:
        resource.prlimit(started.pid, resource.RLIMIT_FSIZE, bounds)
    except ProcessLookupError:
        return  # It is gone already.
    except PermissionError as error:
        started.kill()
        started.wait()
        raise StalledError("the files of Envoy cannot be bounded", reason=NO_ENVOY) from error


def bound_log(path: Path) -> None:
    """Empty a log that has grown too long. Envoy appends to it, so it goes on from the start."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > MAX_LOG_BYTES:
            os.truncate(path, 0)
