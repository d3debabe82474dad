"""Nodes that went back by themselves from what is published for all: is the revision to blame?

In:   Reversal values, how long the nodes wait for their reconciler
Out:  what speaks against the revision
Pure.

An agent answers a flip before it knows whether the flip cut it off, so the fleet may have acknowledged a
revision, and it may be promoted, when a node goes back.

Holds always:
1. Only a reversal that is heard of soon after the node's own flip is laid on the revision. One that is
   heard of late, or whose flip nobody saw, may come from any network that broke: people are told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PATIENCE_SECONDS: Final = 60.0
"""What a node that went back may take to be heard again: its first dials, with their jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """A node refuses a publication that it took back. Seconds since the epoch.

    `flipped`: when it was known to enforce it; 0: that was never heard.
    """

    node: str
    flipped: float
    heard: float


def laid_on(reversals: Iterable[Reversal], *, confirm_seconds: int) -> tuple[str, ...]:
    """The nodes that the revision in question cut off, with the reason."""
    latest = confirm_seconds + PATIENCE_SECONDS
    return tuple(
        f"{one.node}: lost its reconciler under it, and went back by itself"
        for one in sorted(reversals, key=lambda one: one.node)
        if confirm_seconds and one.flipped and one.heard - one.flipped <= latest
    )
