"""What is in each image.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

SUITE: Final = "bookworm"
PYTHON_LOCK: Final = Path("images/python.lock")
PYTHON_FOLDER: Final = Path("usr/local/lib/python3.11/dist-packages")
"""On Debian's own search path, so that child processes find the packages as their parents did."""

_EVERYWHERE: Final = ("python3", "libstdc++6", "usr-is-merged")
"""`usr-is-merged` stands for a package that would bring all of Perl; wheels are linked against libstdc++."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image. `files`: built file → path in the image. `left_out`: the other program's packages."""

    name: str
    title: str
    packages: tuple[str, ...]
    command: str
    module: str
    user: str
    files: tuple[tuple[Path, Path], ...] = ()
    left_out: tuple[str, ...] = ()


RECIPES: Final = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="reconciler",
            title="Tidegate reconciler",
            packages=(*_EVERYWHERE, "ca-certificates"),
            command="tidegate",
            module="reconciler.cli",
            user="65532:65532",
            left_out=("nodeagent",),
        ),
        Recipe(
            name="nodeagent",
            title="Tidegate node agent",
            # BCC brings LLVM: it is for `nodeagent trace`, which runs in a process of its own.
            packages=(*_EVERYWHERE, "libbpf1", "nftables", "python3-bpfcc"),
            command="nodeagent",
            module="nodeagent.cli",
            user="0:0",
            files=(
                (Path("build/bpf/tidegate.bpf.o"), Path("usr/lib/tidegate/tidegate.bpf.o")),
                (Path("build/cni/tidegate-cni"), Path("usr/lib/tidegate/tidegate-cni")),
            ),
            left_out=("reconciler",),
        ),
    )
}
