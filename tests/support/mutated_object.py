"""The programs with a guard taken out: a test that still passes then would be no test of it.

In:   texts of the C sources, and what stands in their place
Out:  a compiled object
Shell over clang, in a folder of the test's own.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[2] / "bpf"
Mutation = tuple[str, str, str]
"""File, text that stands in it once, text in its place."""


def mutated_object(folder: Path, mutations: tuple[Mutation, ...]) -> Path:
    """Compile the sources with the changes. A text that is not there any more is an error."""
    copied = folder / "bpf"
    shutil.copytree(SOURCES, copied)
    for name, old, new in mutations:
        source = copied / name
        text = source.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{name} holds {text.count(old)} times: {old}")
        source.write_text(text.replace(old, new))
    subprocess.run(["make", "-s", "-C", str(copied)], check=True, capture_output=True)
    return folder / "build" / "bpf" / "tidegate.bpf.o"
