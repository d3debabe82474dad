"""Find kernel headers for BCC, or lay Debian's two header packages over each other.

In:   where a system keeps headers (HeaderPlaces)
Out:  Headers, or Missing
A shell: reads directories, and makes one tree of symlinks in a cache directory.

BCC wants one tree. Debian splits it in two (linux-headers-*-common and -*-amd64) and knows its own
kernels only. For UAPI structures any version of headers does: offsets come from BTF (see `btf`).
"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeagent.trace.missing import Missing

SOURCE_VARIABLE: Final = "BCC_KERNEL_SOURCE"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderPlaces:
    """Where headers may be; the defaults are a Debian system's."""

    release: str = platform.release()
    modules: Path = Path("/lib/modules")
    archive: Path = Path("/sys/kernel/kheaders.tar.xz")
    sources: Path = Path("/usr/src")
    prepared: Path = Path("/var/cache/tidegate/kernel-headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """What BCC will use: `source` is empty if it finds the running kernel's own by itself."""

    source: Path | None


def find_headers(places: HeaderPlaces, environment: Mapping[str, str]) -> Headers | Missing:
    """The tree an operator named, the running kernel's own, or the prepared one."""
    if named := environment.get(SOURCE_VARIABLE):
        if _is_tree(Path(named)):
            return Headers(source=Path(named))
        return Missing(
            what=f"kernel headers: {SOURCE_VARIABLE} names {named}, which is no header tree",
            fix=f"unset {SOURCE_VARIABLE}, or point it at a tree with include/linux",
        )
    if _is_tree(places.modules / places.release / "build") or places.archive.exists():
        return Headers(source=None)
    if _is_tree(places.prepared):
        return Headers(source=places.prepared)
    return Missing(
        what=f"kernel headers: neither {places.modules / places.release / 'build'}, "
        f"nor {places.archive}, nor a prepared tree in {places.prepared}",
        fix=_PREPARE
        if _newest_pair(places.sources)
        else f"install the running kernel's headers, or load its module kheaders, or\n"
        f"     {_INSTALL} && {_PREPARE}",
    )


def prepare_headers(places: HeaderPlaces) -> Path | Missing:
    """Make the tree at `places.prepared` from Debian's packages, replacing an older one whole."""
    pair = _newest_pair(places.sources)
    if pair is None:
        return Missing(
            what=f"kernel headers: no linux-headers-*-common with its twin in {places.sources}",
            fix=_INSTALL,
        )
    parent = places.prepared.parent
    parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=parent, prefix=f".{places.prepared.name}-"))
    try:
        _overlay(pair, fresh)
        fresh.chmod(0o755)
        # A directory cannot be renamed onto a full one: the old tree goes first. Should we die in
        # between, the tree is absent, and the next trace says how to make it.
        shutil.rmtree(places.prepared, ignore_errors=True)
        fresh.rename(places.prepared)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return places.prepared


def _debian_architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


_PREPARE: Final = "nodeagent trace --prepare-headers"
_INSTALL: Final = f"apt-get install linux-headers-{_debian_architecture()}"


def _is_tree(path: Path) -> bool:
    """True for a tree that BCC can use: a module build tree may hold its sources beside it."""
    return any((path / at / "include/linux").is_dir() for at in ("", "source", "../source"))


def _newest_pair(sources: Path) -> tuple[Path, Path] | None:
    """This architecture's generated headers, then the common ones, of the newest version."""
    pairs = []
    for common in sources.glob("linux-headers-*-common"):
        twin = common.with_name(common.name.removesuffix("common") + _debian_architecture())
        if twin.is_dir() and (common / "include/linux").is_dir():
            pairs.append((twin, common))
    return max(pairs, key=lambda pair: _version_key(pair[1].name), default=None)


def _version_key(name: str) -> tuple[int, ...]:
    """`linux-headers-6.1.0-56-common` → (6, 1, 0, 56): 6.10 is newer than 6.9."""
    return tuple(int(part) for part in name.replace("-", ".").split(".") if part.isdigit())


def _overlay(layers: Sequence[Path], target: Path) -> None:
    """Symlink what one layer has, merge directories that several have; the first layer wins."""
    for name in sorted({entry for layer in layers for entry in os.listdir(layer)}):
        found = [layer / name for layer in layers if (layer / name).exists()]
        if not found:
            continue  # a dangling link of a package that is not installed
        if len(found) > 1 and all(path.is_dir() for path in found):
            (target / name).mkdir()
            _overlay(found, target / name)
        else:
            (target / name).symlink_to(found[0].resolve())
