"""Which container and pod a process is in, by its control group.

In:   a cgroup number from the kernel; the tree of version 2 control groups
Out:  its path, and the container and pod that container runtimes write into that path
Pure, but for CgroupTree, a shell over the mounted tree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_CGROUPS: Final = 100_000

_CONTAINER: Final = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_POD: Final = re.compile(r"pod([0-9a-f]{8}([-_])[0-9a-f]{4}(?:\2[0-9a-f]{4}){2}\2[0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Container:
    """Empty parts are not known: a process of the node itself has neither."""

    container: str = ""
    pod_uid: str = ""


def container_of(cgroup_path: str) -> Container:
    """Read a path as containerd, CRI-O and Docker write it, by systemd or by themselves."""
    ids = _CONTAINER.findall(cgroup_path)
    pods = _POD.findall(cgroup_path)
    return Container(
        container=ids[-1] if ids else "",
        pod_uid=pods[-1][0].replace("_", "-") if pods else "",
    )


def cgroup2_mounts(mountinfo: str) -> tuple[Path, ...]:
    """Where version 2 control groups are mounted, from the text of /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        if source.split(" ", 1)[0] == "cgroup2":
            found.append(Path(mount.split(" ")[4]))
    return tuple(found)


class CgroupTree:
    """Finds paths by number; looks again only for numbers it has not met."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: dict[int, str] = {}

    def path_of(self, number: int) -> str:
        """The path below the mount; empty if that group is gone, or is the root itself."""
        if number not in self._paths:
            self._paths = {number: "", **self._paths, **dict(self._walk())}
        return self._paths[number]

    def _walk(self) -> Iterator[tuple[int, str]]:
        """A cgroup's number is the inode number of its directory."""
        for count, (folder, _, _) in enumerate(os.walk(self._root)):
            if count >= MAX_CGROUPS:
                return
            try:
                number = os.stat(folder).st_ino
            except OSError:
                continue  # gone meanwhile
            relative = folder.removeprefix(str(self._root))
            yield number, relative
