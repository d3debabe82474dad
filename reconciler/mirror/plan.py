"""What to write and to delete so that the copies are those of the promoted policies.

In:   the copies that should be, those that are
Out:  Step
Pure.

Holds always:
1. Only what carries the mirror's own mark is deleted: the marked objects are its inventory.
2. Of a surprising number nothing is deleted before somebody says so; what is to be written is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from reconciler.mirror.objects import Copy, Key

FREE_DELETIONS: Final = 20
FREE_SHARE: Final = 4
"""One in so many may go at once, where that is more than FREE_DELETIONS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`held`: how many deletions wait for somebody's word."""

    apply: tuple[Key, ...] = ()
    delete: tuple[Key, ...] = ()
    held: int = 0


def next_step(
    wanted: Mapping[Key, Copy], found: Mapping[Key, Copy], *, may_delete_all: bool
) -> Step:
    """Compare; `found` are the marked objects."""
    surplus = tuple(sorted(key for key in found if key not in wanted))
    budget = max(FREE_DELETIONS, len(found) // FREE_SHARE)
    is_held = len(surplus) > budget and not may_delete_all
    return Step(
        apply=tuple(sorted(key for key, copy in wanted.items() if found.get(key) != copy)),
        delete=() if is_held else surplus,
        held=len(surplus) if is_held else 0,
    )
