"""Debian's kernels, unpacked beside the tree, to boot in a virtual machine.

In:   the number of a series ("6.1")
Out:  a Kernel: its release, its image, its modules; a static busybox for the first moments
Shell over apt, dpkg-deb and depmod. Nothing is installed, and apt's own settings stay as they are: lists
and packages are kept in the cache. Minutes the first time, nothing after.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.fetched import private_apt, run
from tests.support.tool_cache import tool_cache

HERE: Final = "bookworm"
SERIES: Final = {
    "5.10": ("bullseye", "linux-image-amd64"),
    "6.1": (HERE, "linux-image-amd64"),
    "6.12": (HERE, "linux-image-6.12-amd64"),
}
"""The release of Debian, and the package that depends on its newest kernel of the series."""
BUSYBOX: Final = "busybox-static"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Where an unpacked kernel is."""

    release: str
    """What `uname -r` says under it."""
    root: Path
    """`boot/` and `lib/modules/` are in it, as in a machine's root."""
    busybox: Path

    @property
    def image(self) -> Path:
        return self.root / "boot" / f"vmlinuz-{self.release}"


def kernel(series: str) -> Kernel:
    """The kernel, fetched if it is not there yet. Raises CalledProcessError if that fails."""
    folder = tool_cache() / f"vm-kernel-{series}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _fetch(series, folder)
    (release,) = (each.name for each in (folder / "lib/modules").iterdir())
    return Kernel(release=release, root=folder, busybox=folder / "bin/busybox")


def _fetch(series: str, folder: Path) -> None:
    """Whole or not at all."""
    print(f"fetching Debian's kernel {series}: a minute, once", file=sys.stderr)
    debian, newest = SERIES[series]
    with TemporaryDirectory(dir=folder.parent, prefix="vm-fetch-") as name:
        work = Path(name)
        apt = private_apt(work / "apt", lambda text: text.replace(HERE, debian))
        run(["apt-get", *apt, "update", "-qq"])
        package = _newest_of(newest, apt)
        run(["apt-get", *apt, "download", "-qq", package, BUSYBOX], cwd=work)
        unpacked = work / "root"
        for archive in work.glob("*.deb"):
            run(["dpkg-deb", "-x", str(archive), str(unpacked)])
        release = package.removeprefix("linux-image-")
        run(["depmod", "-b", str(unpacked), release])
        shutil.rmtree(unpacked / "usr", ignore_errors=True)
        unpacked.rename(folder)


def _newest_of(package: str, apt: Sequence[str]) -> str:
    for line in run(["apt-cache", *apt, "depends", "--important", package]).splitlines():
        word, _, needed = line.strip().partition(": ")
        if word == "Depends" and needed.startswith("linux-image-"):
            return needed
    raise LookupError(f"{package} names no kernel: this recipe must be looked at")
