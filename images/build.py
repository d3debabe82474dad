"""Build one image: Debian's packages, the locked wheels and our own code, two layers.

In:   a Recipe; SOURCE_DATE_EPOCH or the last commit's time
Out:  an OCI image layout, its digest, an SBOM beside it
Shell over mmdebstrap, pip and one folder; needs root, as it makes a root file system.

Holds always:
1. Every wheel is one that `python.lock` names by its hash; every Debian package is one that apt verified.
2. The same packages and the same commit give the same digest.
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
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from images import layer, sbom
from images.oci import ImageConfig, write_layout
from images.recipe import PYTHON_FOLDER, PYTHON_LOCK, SUITE, Recipe
from netpolicy.version import VERSION

DPKG_STATUS: Final = "./var/lib/dpkg/status"
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
class Built:
    """Where an image is, and what names it."""

    layout: Path
    sbom: Path
    layers: tuple[Path, Path]
    digest: str


def build(recipe: Recipe, output: Path, *, epoch: int, base: Path | None = None) -> Built:
    """Build into `output`. `base`: Debian's part, made before, to save the time."""
    work = output / recipe.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    archive = base or make_base(recipe, work / "debian.tar", epoch=epoch)
    layers = (work / "debian-layer.tar", work / "tidegate-layer.tar")
    layer.from_archive(archive, layers[0], epoch=epoch)
    with TemporaryDirectory(dir=work) as name:
        stage = Path(name) / "root"
        _stage(recipe, stage, epoch=epoch)
        bill = _bill(recipe, archive, stage, epoch=epoch)
        _write(stage / SBOM_IN_IMAGE, bill)
        layer.from_folder(stage, layers[1], epoch=epoch)
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


def make_base(recipe: Recipe, target: Path, *, epoch: int) -> Path:
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


def _stage(recipe: Recipe, stage: Path, *, epoch: int) -> None:
    """Lay out what is not Debian's: wheels, our packages, the command, built files."""
    python = stage / PYTHON_FOLDER
    python.mkdir(parents=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    onto = ("--quiet", "--no-compile", "--no-deps", "--target", str(python))
    locked = ("--require-hashes", "--only-binary=:all:", "-r", str(PYTHON_LOCK))
    _run([*pip, "install", *onto, *locked], epoch=epoch)
    with _own_wheel(pip, epoch=epoch) as wheel:
        _run([*pip, "install", *onto, "--upgrade", str(wheel)], epoch=epoch)
    shutil.rmtree(python / "bin", ignore_errors=True)  # scripts of the machine's own Python
    for name in recipe.left_out:
        shutil.rmtree(python / name)
    for path in python.rglob("direct_url.json"):
        path.unlink()  # says where on this machine the wheel was
    _compile(python, stage, epoch=epoch)
    _write(stage / "usr/local/bin" / recipe.command, _command(recipe), executable=True)
    for source, place in recipe.files:
        _write(stage / place, source.read_bytes(), executable=os.access(source, os.X_OK))


def _compile(python: Path, stage: Path, *, epoch: int) -> None:
    """Compile ahead of time, as a container cannot write beside its code: by content, not by time."""
    by_content = ("--invalidation-mode", "unchecked-hash", "-s", str(stage), "-p", "/")
    _run([sys.executable, "-m", "compileall", "-q", *by_content, str(python)], epoch=epoch)


@contextmanager
def _own_wheel(pip: Sequence[str], *, epoch: int) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        made = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", name, ".")
        _run([*pip, *made], epoch=epoch)
        (wheel,) = Path(name).glob("*.whl")
        yield wheel


def _command(recipe: Recipe) -> bytes:
    return f"#!/usr/bin/python3\nfrom {recipe.module} import main\n\nmain()\n".encode()


def _bill(recipe: Recipe, archive: Path, stage: Path, *, epoch: int) -> bytes:
    with tarfile.open(archive) as debian:
        status = debian.extractfile(DPKG_STATUS)
        assert status is not None
        components = list(sbom.debian_components(status.read().decode()))
    for path in sorted((stage / PYTHON_FOLDER).glob("*.dist-info/METADATA")):
        components.append(sbom.python_component(path.read_text()))
    return sbom.document(f"tidegate/{recipe.name}", VERSION, components, epoch=epoch)


def _config(recipe: Recipe) -> ImageConfig:
    return ImageConfig(
        user=recipe.user,
        entrypoint=(f"/usr/local/bin/{recipe.command}",),
        environment=(
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "HOME=/tmp",
            "PYTHONDONTWRITEBYTECODE=1",
        ),
        labels={
            "org.opencontainers.image.title": recipe.title,
            "org.opencontainers.image.version": VERSION,
            "org.opencontainers.image.licenses": "Apache-2.0",
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
