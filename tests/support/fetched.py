"""Debian's packages beside the machine's own: fetched, never installed, its settings left alone.

In:   what the machine's list of sources is to say in place of what it says
Out:  options for apt's programs; what a command printed
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path("/etc/apt/sources.list.d/debian.sources")
OLD_SOURCES: Final = Path("/etc/apt/sources.list")
SHOWN_CHARACTERS: Final = 4000


def private_apt(folder: Path, rewritten: Callable[[str], str]) -> list[str]:
    """Options that make apt keep everything below `folder`, and read the sources as `rewritten`."""
    for each in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / each).mkdir(parents=True)
    known = SOURCES if SOURCES.exists() else OLD_SOURCES
    wanted = folder / "sources" / f"wanted{known.suffix}"
    wanted.write_text(rewritten(known.read_text()))
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": folder / "sources",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What it printed. Raises CalledProcessError if it failed, and shows why."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.stderr.write((done.stdout + done.stderr)[-SHOWN_CHARACTERS:])
        done.check_returncode()
    return done.stdout
