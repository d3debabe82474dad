"""Where what takes long to fetch or to build is kept: outside the tree, for all checkouts."""

from __future__ import annotations

import os
from pathlib import Path


def tool_cache() -> Path:
    """The folder; it need not be there yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tidegate"
