"""What is in each image.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUITE: Final = "bookworm"
PYTHON_LOCK: Final = Path("images/python.lock")
ENVOY_LOCK: Final = Path("images/envoy.lock")
PYTHON_FOLDER: Final = Path("usr/local/lib/python3.11/dist-packages")
"""On Debian's own search path, so that child processes find the packages as their parents did."""

_EVERYWHERE: Final = ("python3", "libstdc++6", "usr-is-merged")
"""`usr-is-merged` stands for a package that would bring all of Perl; wheels are linked against libstdc++."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image. `locks`: wheels, a layer for each. `files`: built file → path in the image. `links`: path
    in the image → where it leads. `left_out`: the other program's packages.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    command: str
    module: str
    user: str
    locks: tuple[Path, ...] = (PYTHON_LOCK,)
    files: tuple[tuple[Path, Path], ...] = ()
    links: tuple[tuple[Path, Path], ...] = ()
    left_out: tuple[str, ...] = ()


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="reconciler",
            title="Tidegate reconciler",
            # gpgv and ssh-keygen verify the signatures of commits.
            packages=(*_EVERYWHERE, "ca-certificates", "gpgv", "openssh-client"),
            command="tidegate",
            module="reconciler.cli",
            user="65532:65532",
            left_out=("nodeagent",),
        ),
        Recipe(
            name="nodeagent",
            title="Tidegate node agent",
            packages=(
                *_EVERYWHERE,
                "libbpf1",
                "nftables",
                "python3-bpfcc",  # with LLVM: for `nodeagent trace`, in a process of its own
                "wireguard-go",  # where the node's kernel has no WireGuard
                "wireguard-tools",
            ),
            command="nodeagent",
            module="nodeagent.cli",
            user="0:0",
            locks=(PYTHON_LOCK, ENVOY_LOCK),
            files=(
                (Path("build/bpf/tidegate.bpf.o"), Path("usr/lib/tidegate/tidegate.bpf.o")),
                (Path("build/cni/tidegate-cni"), Path("usr/lib/tidegate/tidegate-cni")),
            ),
            links=((Path("usr/bin/envoy"), Path("/") / PYTHON_FOLDER / "envoy/_bin/envoy"),),
            left_out=("reconciler",),
        ),
    )
}
