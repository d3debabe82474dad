"""Images as the tests use them: built once a run, their root file systems unpacked and entered.

In:   a recipe's name, a folder
Out:  Image: its layout, its root file system, commands that start something in it
Shell over mmdebstrap, pip, mounts of a namespace of its own. What takes minutes to make (Debian's part, the
wheels) is kept outside the tree, under names that their lists decide.
"""

from __future__ import annotations

import fcntl
import os
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

import yaml

from images.build import ENVIRONMENT, Built, Parts, build, make_debian, make_wheels, source_epoch
from images.recipe import RECIPES, SUITE, Recipe
from tests.support.kube_server import KubeServer

ENTER: Final = """\
set -eu
root=$1; shared=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
for place in dev run tmp var/lib/tidegate var/lib/tidegate-agent; do mount -t tmpfs tmpfs "$root/$place"; done
for device in null zero full random urandom; do
  touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
mount --bind /etc/hosts "$root/etc/hosts"
mount -t proc proc "$root/proc"
mount --bind /proc/sys/net "$root/host/proc/sys/net"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,ro,bind "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t bpf bpf "$root/sys/fs/bpf"
for place in $shared; do mkdir -p "$root$place"; mount --rbind "$place" "$root$place"; done
mount -o remount,ro,bind "$root"
exec chroot "$root" "$@"
"""
"""A container's mounts, as far as ours are concerned; they go with the namespace."""

KEPT_OF_EACH: Final = 2
"""Archives of one kind that are kept: today's, and those of another branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image, and its root file system as a folder."""

    built: Built
    parts: Parts
    root: Path

    def started(
        self,
        *words: str,
        user: int = 0,
        capabilities: Sequence[str] = (),
        own_network: bool = True,
        shared: Sequence[Path] = (),
    ) -> list[str]:
        """The command that runs these words in it: no other capability, and no way to get one.

        `shared`: folders of the machine that it sees under their own paths, as a pod sees a hostPath.
        """
        kept = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
        spaces = ["--mount", *(["--net"] if own_network else [])]
        return [
            "unshare",
            *spaces,
            "sh",
            "-c",
            ENTER,
            "enter",
            str(self.root),
            " ".join(map(str, shared)),
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            "--no-new-privs",
            f"--bounding-set={kept}",
            f"--inh-caps={kept}",
            "env",
            "--ignore-environment",
            *ENVIRONMENT,
            *words,
        ]


def image(name: str, folder: Path) -> Image:
    """Build one and unpack it."""
    recipe = RECIPES[name]
    parts = _parts(recipe)
    built = build(recipe, folder, epoch=source_epoch(), parts=parts)
    root = folder / f"{name}-root"
    for layer in built.layers:
        with tarfile.open(layer) as archive:
            archive.extractall(root, numeric_owner=True)
    for place in (
        "dev",
        "run",
        "tmp",
        "proc",
        "sys",
        "var/lib/tidegate",
        "var/lib/tidegate-agent",
        "host/proc/sys/net",
        "etc/tidegate",
    ):
        (root / place).mkdir(parents=True, exist_ok=True)
    (root / "etc/hosts").touch()
    return Image(built=built, parts=parts, root=root)


def chart_capabilities(server: KubeServer) -> list[str]:
    """What the chart's container adds."""
    text = server.helm("template", "t", "charts/tidegate", "--namespace", "tidegate-system")
    (workload,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "DaemonSet")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return list(container["securityContext"]["capabilities"]["add"])


def _parts(recipe: Recipe) -> Parts:
    debian = sha256(repr((SUITE, recipe.packages)).encode()).hexdigest()[:12]

    def make(target: Path) -> None:
        make_debian(recipe, target, epoch=source_epoch())

    return Parts(
        debian=_kept(f"debian-{recipe.name}", debian, make),
        wheels=tuple(_wheels(lock) for lock in recipe.locks),
    )


def _wheels(lock: Path) -> Path:
    digest = sha256(lock.read_bytes()).hexdigest()[:12]
    return _kept(f"wheels-{lock.stem}", digest, partial(make_wheels, lock))


def _kept(kind: str, digest: str, make: Callable[[Path], object]) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{kind}-{digest}.tar"
    target = cache / name
    with (cache / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            fresh = cache / f"fresh-{name}"
            make(fresh)
            fresh.rename(target)
        target.touch()
        for old in _oldest(cache.glob(f"{kind}-*.tar")):
            old.unlink()
    return target


def _oldest(archives: Iterable[Path]) -> list[Path]:
    """Those that were not used of late: whoever changes a list often shall not fill the disk."""
    return sorted(archives, key=lambda path: path.stat().st_mtime)[:-KEPT_OF_EACH]
