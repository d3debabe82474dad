"""Build one image of layers: Debian's packages, the locked wheels of each lock, our own code.

In:   a Recipe; SOURCE_DATE_EPOCH or the last commit's time
Out:  an OCI image layout, its digest, an SBOM beside it
Shell over mmdebstrap, pip and one folder; needs root, as it makes a root file system.

Holds always:
1. Every wheel is one that a lock names by its hash; every Debian package is one that apt verified.
2. No layer holds anything of the clock, the user or the machine; `--twice` compares two builds.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from images import layer, sbom
from images.oci import ImageConfig, write_layout
from images.recipe import PYTHON_FOLDER, SUITE, Recipe
from netpolicy.version import VERSION

DPKG_STATUS: Final = "*/var/lib/dpkg/status"
LICENCE: Final = "Apache-2.0"
WHEELS_EPOCH: Final = 0
"""Not the commit's time: a new commit is no new layer of wheels, and nodes need not fetch it again."""

PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")
ENVIRONMENT: Final = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG=C.UTF-8",
    "HOME=/tmp",
    "PYTHONDONTWRITEBYTECODE=1",
)
SBOM_IN_IMAGE: Final = Path("usr/share/tidegate/sbom.cdx.json")
MERGED_USR: Final = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
_NO_DOCUMENTATION: Final = (
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/doc/*",
)
_LICENCES: Final = "/usr/share/doc/*/copyright"
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What takes long to make, and changes seldom: Debian's archive, a layer of wheels for each lock."""

    debian: Path
    wheels: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Where an image is, and what names it."""

    layout: Path
    sbom: Path
    layers: tuple[Path, ...]
    digest: str


def build(recipe: Recipe, output: Path, *, epoch: int, parts: Parts | None = None) -> Built:
    """Build into `output`; `parts` that were made before save the time."""
    work = output / recipe.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    parts = parts or Parts(
        debian=make_debian(recipe, work / "debian.tar", epoch=epoch),
        wheels=tuple(make_wheels(lock, work / f"{lock.stem}-layer.tar") for lock in recipe.locks),
    )
    layers = (work / "debian-layer.tar", *parts.wheels, work / "tidegate-layer.tar")
    layer.from_archive(parts.debian, layers[0], epoch=epoch)
    bill = _bill(recipe, parts, epoch=epoch)
    with TemporaryDirectory(dir=work) as name:
        stage = Path(name) / "root"
        _stage(recipe, stage, epoch=epoch)
        _name_user(recipe, parts, stage)
        _write(stage / SBOM_IN_IMAGE, bill)
        layer.from_folder(stage, layers[-1], epoch=epoch)
    listed = work / "sbom.cdx.json"
    listed.write_bytes(bill)
    digest = write_layout(work / "layout", layers, _config(recipe), epoch=epoch)
    return Built(layout=work / "layout", sbom=listed, layers=layers, digest=digest)


def source_epoch() -> int:
    """The time that stands in for "now": of SOURCE_DATE_EPOCH, else of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return int(given)
    asked = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def make_debian(recipe: Recipe, target: Path, *, epoch: int) -> Path:
    """Have mmdebstrap make Debian's part. Raises CalledProcessError."""
    _run(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=essential",
            f"--include={','.join(recipe.packages)}",
            MERGED_USR,
            *(f"--dpkgopt=path-exclude={path}" for path in _NO_DOCUMENTATION),
            f"--dpkgopt=path-include={_LICENCES}",
            SUITE,
            str(target),
        ],
        epoch=epoch,
    )
    return target


def make_wheels(lock: Path, target: Path) -> Path:
    """Make the layer of a lock's wheels: the same for both images, until the lock changes."""
    with TemporaryDirectory(dir=target.parent) as name:
        stage = Path(name) / "root"
        locked = ("--require-hashes", "--only-binary=:all:", "-r", str(lock))
        _install(stage, locked, epoch=WHEELS_EPOCH)
        layer.from_folder(stage, target, epoch=WHEELS_EPOCH)
    return target


def _stage(recipe: Recipe, stage: Path, *, epoch: int) -> None:
    """Lay out what is ours: packages, the command, built files."""
    with _own_wheel(epoch=epoch) as wheels:
        # By name: what pip notes of a wheel given by its path is where that was on this machine.
        ours = ("--no-index", "--find-links", str(wheels), f"tidegate=={VERSION}")
        _install(stage, ours, epoch=epoch, left_out=recipe.left_out)
    _write(stage / "usr/local/bin" / recipe.command, _command(recipe), executable=True)
    for source, place in recipe.files:
        _write(stage / place, source.read_bytes(), executable=os.access(source, os.X_OK))
    for place, leads_to in recipe.links:
        (stage / place).parent.mkdir(parents=True, exist_ok=True)
        (stage / place).symlink_to(leads_to)


def _name_user(recipe: Recipe, parts: Parts, stage: Path) -> None:
    """Give the image's user a name: ssh-keygen does not run as somebody who has none."""
    user, _, group = recipe.user.partition(":")
    if user == "0":
        return
    lines = {
        "etc/passwd": f"tidegate:x:{user}:{group}::/tmp:/usr/sbin/nologin\n",
        "etc/group": f"tidegate:x:{group}:\n",
    }
    for path, line in lines.items():
        (text,) = _texts(parts.debian, f"./{path}")
        _write(stage / path, (text + line).encode())


def _install(stage: Path, what: Sequence[str], *, epoch: int, left_out: Sequence[str] = ()) -> None:
    python = stage / PYTHON_FOLDER
    python.mkdir(parents=True)
    onto = ("--quiet", "--no-compile", "--no-deps", "--target", str(python))
    _run([*PIP, "install", *onto, *what], epoch=epoch)
    shutil.rmtree(python / "bin", ignore_errors=True)  # scripts of the machine's own Python
    for name in left_out:
        shutil.rmtree(python / name)
    _compile(python, stage, epoch=epoch)


def _compile(python: Path, stage: Path, *, epoch: int) -> None:
    """Compile ahead of time, as a container cannot write beside its code: by content, not by time."""
    by_content = ("--invalidation-mode", "unchecked-hash", "-s", str(stage), "-p", "/")
    _run([sys.executable, "-m", "compileall", "-q", *by_content, str(python)], epoch=epoch)


@contextmanager
def _own_wheel(*, epoch: int) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        made = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", name, ".")
        _run([*PIP, *made], epoch=epoch)
        yield Path(name)


def _command(recipe: Recipe) -> bytes:
    return f"#!/usr/bin/python3\nfrom {recipe.module} import main\n\nmain()\n".encode()


def _bill(recipe: Recipe, parts: Parts, *, epoch: int) -> bytes:
    (status,) = _texts(parts.debian, DPKG_STATUS)
    components = [
        *sbom.debian_components(status),
        *(
            sbom.python_component(metadata)
            for wheels in parts.wheels
            for metadata in _texts(wheels, "*.dist-info/METADATA")
        ),
        sbom.python_component(
            f"Name: tidegate\nVersion: {VERSION}\nLicense-Expression: {LICENCE}\n"
        ),
    ]
    return sbom.document(f"tidegate/{recipe.name}", VERSION, components, epoch=epoch)


def _texts(archive: Path, pattern: str) -> list[str]:
    """The files of an archive whose path matches."""
    found = []
    with tarfile.open(archive) as opened:
        for member in opened:
            if fnmatch(member.name, pattern) and (data := opened.extractfile(member)):
                found.append(data.read().decode())
    return found


def _config(recipe: Recipe) -> ImageConfig:
    return ImageConfig(
        user=recipe.user,
        entrypoint=(f"/usr/local/bin/{recipe.command}",),
        environment=ENVIRONMENT,
        labels={
            "org.opencontainers.image.title": recipe.title,
            "org.opencontainers.image.version": VERSION,
            "org.opencontainers.image.licenses": LICENCE,
        },
        architecture=_ARCHITECTURES[platform.machine()],
        reference=VERSION,
    )


def _write(path: Path, data: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o755 if executable else 0o644)


def _run(command: Sequence[str], *, epoch: int) -> None:
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write((done.stdout + done.stderr)[-4000:])
        done.check_returncode()
