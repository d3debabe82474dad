"""Descriptors of everything that one version has pinned.

In:   a directory on bpffs, and a version whose pins are whole
Out:  maps and programs by name, for as long as they are kept open
Shell over bpffs.

Holds always:
1. All pins are open, or none: what is missing raises DatapathError, and nothing stays open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import libbpf, pins
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map
from nodeagent.datapath.pins import Version

PROGRAM_OF: Final = {Direction.EGRESS: pins.FROM_POD, Direction.INGRESS: pins.TO_POD}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPins:
    """`programs`: those that stand on a pod's interface, by the direction they judge."""

    bpffs: Path
    version: Version
    maps: dict[str, Map]
    programs: dict[Direction, int]
    others: dict[str, int]

    @classmethod
    def open(cls, bpffs: Path, version: Version) -> OpenedPins:
        """Open every pin of a version."""
        opened = cls(bpffs=bpffs, version=version, maps={}, programs={}, others={})
        try:
            for name in pins.MAPS:
                opened.maps[name] = libbpf.open_map(pins.map_path(bpffs, version, name))
            for direction, name in PROGRAM_OF.items():
                opened.programs[direction] = opened.open_program(name)
            for name in pins.OTHER_PROGRAMS:
                opened.others[name] = opened.open_program(name)
        except DatapathError:
            opened.close()
            raise
        return opened

    def open_program(self, name: str) -> int:
        """A new descriptor of a program, for who closes it."""
        return libbpf.get_pinned(pins.program_path(self.bpffs, self.version, name))

    def by_path(self) -> dict[Path, int]:
        """Where each belongs, and its descriptor."""
        programs = {PROGRAM_OF[way]: fd for way, fd in self.programs.items()} | self.others
        return {
            pins.map_path(self.bpffs, self.version, name): opened.fd
            for name, opened in self.maps.items()
        } | {pins.program_path(self.bpffs, self.version, name): fd for name, fd in programs.items()}

    def close(self) -> None:
        """Give the descriptors back."""
        for opened in self.maps.values():
            opened.close()
        for fd in (*self.programs.values(), *self.others.values()):
            os.close(fd)
