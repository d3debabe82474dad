"""Where the pods behind an address are, as encryption between nodes sees it (`enum tg_place`).

Pure.
"""

from __future__ import annotations

from enum import IntEnum


class Place(IntEnum):
    """An address without a place is no pod's."""

    NO_POD = 0
    HERE = 1
    TUNNEL = 2
    """On another node, at the end of a tunnel."""
    UNREACHABLE = 3
    """On another node, or nobody's yet, and no tunnel leads there."""
    SERVICE = 4
    """A service's: which pod it leads to is not decided yet."""
    NODE = 5
    """A node's own, at the end of a tunnel that nodes' traffic enters, too."""
