"""Owns the process that fetches: starts it, asks it, ends it when it is late.

Holds always:
1. `ask` returns or raises within its time limit, whatever the server does.
2. The process gets no environment of ours but the trusted authorities, and no secret.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from netpolicy.errors import StalledError, TransientError

MAX_ANSWER_BYTES: Final = 64 * 1024
PROGRAM: Final = "from reconciler.source.fetch import main; main()"
PACKAGE_ROOT: Final = Path(__file__).parents[2]
TRUSTED_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


class FetchProcess:
    """One process, started when it is first asked and again after it ended."""

    def __init__(self, directory: Path, *, ca_file: Path | None) -> None:
        self._directory = directory
        self._ca_file = ca_file
        self._trusted: tuple[int, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, line: str, *, timeout_seconds: float) -> bytes:
        """Send one line, return one line; raises TransientError if none comes in time."""
        deadline = time.monotonic() + timeout_seconds
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            return _read_line(process, deadline)
        except (TransientError, OSError) as error:
            self.close()
            if isinstance(error, OSError):
                raise TransientError("the fetching process ended") from error
            raise

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _running(self) -> subprocess.Popen[bytes]:
        # libgit2 adds authorities and never forgets one: a changed file needs a new process.
        trusted = self._authorities()
        if self._process is not None and (
            self._process.poll() is not None or trusted != self._trusted
        ):
            self.close()
        if self._process is None:
            self._trusted = trusted
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, str(self._directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment(),
            )
        return self._process

    def _authorities(self) -> tuple[int, ...]:
        if self._ca_file is None:
            return ()
        try:
            state = self._ca_file.stat()
        except OSError as error:
            message = f"{self._ca_file} cannot be read"
            raise StalledError(message, reason="CertificateRejected") from error
        return (state.st_ino, state.st_mtime_ns, state.st_size)

    def _environment(self) -> dict[str, str]:
        home = self._directory / "home"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        own = {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": str(PACKAGE_ROOT)}
        if self._ca_file is not None:
            empty = home / "no-authorities"
            empty.mkdir(exist_ok=True)
            return {**own, "SSL_CERT_FILE": str(self._ca_file), "SSL_CERT_DIR": str(empty)}
        return own | {name: os.environ[name] for name in TRUSTED_VARIABLES if name in os.environ}


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    readable = select.poll()
    readable.register(descriptor, select.POLLIN)
    answer = b""
    while not answer.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not readable.poll(left * 1000):
            raise TransientError("the server did not finish in time")
        piece = os.read(descriptor, MAX_ANSWER_BYTES)
        if not piece or len(answer) + len(piece) > MAX_ANSWER_BYTES:
            raise TransientError("the fetching process ended")
        answer += piece
    return answer
