"""Why a kernel may have refused the programs: its age.

In:   what was refused, the kernel's release, its error
Out:  the words to say it with
Pure.

A release is a hint, never a gate: vendors bring what newer kernels can do to old numbers (RHEL's 5.14), so
the kernel itself is asked, by loading, and its number explains no more than a refusal.
"""

from __future__ import annotations

import os
import re
from typing import Final

OLDEST_TRIED: Final = (6, 1)
"""`make test-vm` runs the programs there."""


def refusal(what: str, *, release: str, errno: int) -> str:
    """Say that the kernel refused something; where it is older than any tried, why and what to do."""
    said = f"{what}: {os.strerror(errno)}"
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST_TRIED:
        return said
    oldest = ".".join(map(str, OLDEST_TRIED))
    return (
        f"{said}\n"
        f"why: this is Linux {release}; the programs need what {oldest} has\n"
        f"fix: run this node on Linux {oldest} or newer"
    )
