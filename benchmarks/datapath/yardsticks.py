"""The programs that others are measured by: compiled, loaded and pinned for one run.

In:   a directory on a bpffs
Out:  Yardsticks: run one, point it at a program, say which peers its packets are for
Shell over clang, bpftool and the kernel.
"""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nodeagent.datapath import libbpf
from nodeagent.datapath.libbpf import Map

_HERE: Final = Path(__file__).parent
_SOURCE: Final = _HERE / "yardsticks.bpf.c"
_BPF: Final = _HERE.parents[1] / "bpf"
_PROGRAMS: Final = ("empty", "insert_same", "insert_fresh", "vary_destination", "vary_source")
_WALK: Final = struct.Struct("=6I")
_FIRST: Final = bytes(4)
_SHOT: Final = 2


class Yardsticks:
    """Loaded programs; nothing is attached."""

    def __init__(self, pins: Path) -> None:
        self._fds = {name: libbpf.get_pinned(pins / "programs" / name) for name in _PROGRAMS}
        self._walks = libbpf.open_map(pins / "maps" / "walks")
        self._measured = libbpf.open_map(pins / "maps" / "measured")

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in (*self._fds.values(), self._walks.fd, self._measured.fd):
            os.close(fd)

    def cost(self, name: str, packet: bytes, *, context: bytes, repeat: int) -> float:
        """Nanoseconds a run of one of the programs."""
        result, nanoseconds = libbpf.run_program(
            self._fds[name], packet, context=context, repeat=repeat
        )
        if result == _SHOT:
            raise RuntimeError(f"{name}: a measured packet is refused: figures would mean nothing")
        return nanoseconds

    def point_at(self, program: int | None) -> None:
        """Have the varied packets go to a program, by its descriptor; None: to the empty one."""
        fd = self._fds["empty"] if program is None else program
        libbpf.update(self._measured, _FIRST, fd.to_bytes(4, "little"))

    def walk(
        self, first_peer: int, peers: int, *, at_random: bool, fresh_ports: bool = False
    ) -> None:
        """Say which peers the next packets are for: in turn from the first on, or any."""
        state = int.from_bytes(os.urandom(4), "little")
        walk = _WALK.pack(first_peer, peers, peers - 1, at_random, fresh_ports, state)
        libbpf.update(self._walks, _FIRST, walk)


@contextmanager
def yardsticks(bpffs: Path) -> Iterator[Yardsticks]:
    """Compile and load them."""
    pins = bpffs / "yardsticks"
    pins.mkdir()
    with tempfile.TemporaryDirectory() as directory:
        compiled = Path(directory) / "yardsticks.bpf.o"
        machine = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", machine, f"-I{_BPF}"]
        _run("clang", *flags, "-c", str(_SOURCE), "-o", str(compiled))
        load = ("bpftool", "prog", "loadall", str(compiled), str(pins / "programs"))
        _run(*load, "type", "tc", "pinmaps", str(pins / "maps"))
    loaded = Yardsticks(pins)
    try:
        yield loaded
    finally:
        loaded.close()


def memory_of(held: Map) -> int:
    """Bytes that the kernel says a map takes."""
    told = Path(f"/proc/self/fdinfo/{held.fd}").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in told if ":" in line)
    return int(fields["memlock"])


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
