"""Build a small world of network namespaces, run programs in it, and take it all down again.

In:   a Topology (see world_topology for its picture)
Out:  World: places with processes, a directory, a bpffs of its own

Shell: owns the namespaces, mounts and processes of one world.

Holds always:
1. Nothing is ever attached to the root namespace: the world touches no network but its own.
2. Leaving the context removes everything, whatever happened inside; `tests.support.world_sweep`
   finds and removes what a killed owner could not.
3. Programs enter by `nsenter --net`, never by `ip netns exec`, which would hide the bpffs.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import world_sweep
from tests.support.world_topology import (
    Topology,
    address_commands,
    inventory_text,
    link_commands,
    sysctls,
)

POLL_SECONDS: Final = 0.02
PATIENCE: Final = float(os.environ.get("TIDEGATE_TEST_PATIENCE", "1"))
"""How many times longer than usual to wait: more where the processor is emulated (tests/vm)."""
PROJECT: Final = Path(__file__).resolve().parents[2]
"""Where programs start, so that `python -m` finds the project's modules."""


class WorldError(Exception):
    """The world could not be built, waited for, or removed."""


class World:
    """A context manager; everything in it bears `name`."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.name = f"{world_sweep.PREFIX}{uuid.uuid4().hex[:6]}"
        self.directory = world_sweep.directory_of(self.name)
        self.bpffs = self.directory / "bpf"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._kept = False

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._kept:
            self.close()

    def namespace(self, place: str) -> str:
        """The kernel's name of a place."""
        return f"{self.name}-{place}"

    def namespace_path(self, place: str) -> Path:
        """What `nsenter --net=` takes."""
        return world_sweep.NETNS_DIRECTORY / self.namespace(place)

    def enter(self, place: str, command: Sequence[str]) -> list[str]:
        """The argument list that runs a command in a place."""
        return ["nsenter", f"--net={self.namespace_path(place)}", "--", *command]

    @property
    def inventory_path(self) -> Path:
        """The inventory file, written when the world is built."""
        return self.directory / "inventory" / "inventory.yaml"

    def log_path(self, name: str) -> Path:
        """Where a started program's output goes."""
        return self.directory / "logs" / f"{name}.log"

    def run(
        self,
        place: str,
        command: Sequence[str],
        *,
        timeout: float = 90.0,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a place to its end; raise WorldError if it fails and `check` is set."""
        done = subprocess.run(
            self.enter(place, command),
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
            stdin=subprocess.DEVNULL,
            cwd=PROJECT,
            env=_environment(environment),
        )
        if check and done.returncode:
            raise WorldError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done

    def start(
        self,
        name: str,
        place: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program in a place, its output appended to `log_path(name)`.

        It gets a session of its own, so that Ctrl-C ends the world in order instead of at once.
        """
        with self.log_path(name).open("ab") as log:
            process = subprocess.Popen(
                self.enter(place, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=PROJECT,
                env=_environment(environment),
            )
        self._processes[name] = process
        return process

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """The running (or last) program of this name."""
        return self._processes[name]

    def stop(self, name: str, *, timeout: float = 10.0) -> int:
        """Ask a program to end and wait for it; returns its exit status."""
        process = self._processes[name]
        process.terminate()
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def kill(self, name: str) -> None:
        """End a program without asking, as a crash would."""
        process = self._processes[name]
        process.kill()
        process.wait()

    def wait_for(
        self, what: str, is_so: Callable[[], bool], *, timeout: float = 15.0, program: str = ""
    ) -> None:
        """Wait for a state; raise WorldError after `timeout`, or at once if `program` has died."""
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        while not is_so():
            if program and self._processes[program].poll() is not None:
                raise WorldError(f"{program} ended before {what}\n{self.tail(program)}")
            if time.monotonic() > deadline:
                shown = f"\n{self.tail(program)}" if program else ""
                raise WorldError(f"not within {timeout:.0f} s: {what}{shown}")
            time.sleep(POLL_SECONDS)

    def tail(self, name: str, lines: int = 20) -> str:
        """The end of a program's output."""
        path = self.log_path(name)
        text = path.read_text(errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def keep(self) -> None:
        """Leave the world up when the context ends and even when this process does."""
        self._kept = True
        world_sweep.keep(self.directory)

    def close(self) -> None:
        """Take everything down; raise WorldError if anything is left."""
        left = world_sweep.sweep(self.name)
        for process in self._processes.values():
            process.wait(timeout=10)
        if left:
            raise WorldError(f"{self.name} is not gone: {left}")

    def _build(self) -> None:
        self.directory.mkdir(mode=0o700)
        world_sweep.claim(self.directory)
        (self.directory / "logs").mkdir()
        # A folder of its own: whoever watches it shall not wake for anything else.
        self.inventory_path.parent.mkdir()
        self.bpffs.mkdir()
        _call(["mount", "-t", "bpf", "-o", "mode=0700", self.name, str(self.bpffs)])
        for place in self.topology.places:
            _call(["ip", "netns", "add", self.namespace(place)])
            settings = [f"{key}={value}" for key, value in sysctls(self.topology, place).items()]
            self.run(place, ["sysctl", "-q", "-w", *settings])
        names = {place: self.namespace(place) for place in self.topology.places}
        _call(["ip", "-batch", "-"], lines=link_commands(self.topology, names))
        for place in self.topology.places:
            commands = address_commands(self.topology, place)
            _call(self.enter(place, ["ip", "-batch", "-"]), lines=commands)
        self.inventory_path.write_text(inventory_text(self.topology))
        # The kernel notes a veth's carrier up to a second late; until then IPv6 is not on it.
        self.wait_for("every link has its carrier", self._links_are_up)

    def _links_are_up(self) -> bool:
        shown = (self.run(place, ["ip", "-o", "link"]).stdout for place in self.topology.places)
        return not any("NO-CARRIER" in text for text in shown)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(extra or {})}


def _call(command: Sequence[str], *, lines: Sequence[str] = ()) -> None:
    """Run a command that must work; `lines` are fed to it."""
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        input="".join(f"{line}\n" for line in lines),
        timeout=30,
    )
    if done.returncode:
        raise WorldError(f"{' '.join(command)}: {done.stderr.strip()}")
