"""Which nodes a channel is for: a selector, then a share of the rest.

In:   NodeChoice, a node's name and labels
Out:  is it chosen
Pure.

Holds always:
1. The empty choice chooses no node; a hundred percent choose every node.
2. A larger share of the same salt keeps every node of the smaller one.

Each node has a fixed place between 0 and 100, by rendezvous hashing: SHA-256 over salt and name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

WHOLE: Final = 100
_PLACES: Final = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChoice:
    """Nodes that bear all of `labels` (sorted pairs; empty: none by label), and `percent` of all.

    `salt` makes rollouts choose different nodes; it is the revision.
    """

    labels: tuple[tuple[str, str], ...] = ()
    percent: float = 0.0
    salt: str = ""


def is_chosen(choice: NodeChoice, *, node: str, labels: Mapping[str, str]) -> bool:
    """True if the node belongs to the choice."""
    by_label = bool(choice.labels) and all(labels.get(key) == value for key, value in choice.labels)
    return by_label or place_of(choice.salt, node) < choice.percent


def place_of(salt: str, node: str) -> float:
    """The node's place, in 0 ≤ place < 100."""
    drawn = int.from_bytes(sha256(f"{salt}\0{node}".encode()).digest()[:8], "big")
    return min(drawn * WHOLE / _PLACES, WHOLE * (1 - 2**-53))
