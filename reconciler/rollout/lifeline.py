"""Can the reconciler still fetch, now that nodes enforce what they did not enforce before?

In:   Rollout, Contact (what its fetches came to), when nodes took the publication, `now`
Out:  Lifeline: open, awaited or lost; is a fetch due
Pure.

A policy that cuts the way to Git, or to the names that way needs, also cuts off its own revert. So a
flip stays only if a fetch that began after it was answered.

Holds always:
1. A failure that was known before a node could have flipped is never laid on the flip.
2. Without an answer after the flip nothing moves forward; with a failure and none within
   `confirm_seconds` the way is lost.
3. A node that only observes cuts nothing, so a shadow loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from reconciler.rollout.machine import HALTED, STAGES, Phase, Rollout
from reconciler.rollout.plan import StageKind

TRIES: Final = 5
"""Fetches within `confirm_seconds`, so that one that went astray takes nothing back."""


class Lifeline(StrEnum):
    """What is known of the way to Git."""

    OPEN = "open"
    AWAITED = "awaited"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Fetches, in seconds since the epoch; 0: never.

    `began`: the last one. `answered`: when the last one that was answered began. `failing_since`: when the
    first failure after that one was known.
    """

    began: float = 0.0
    answered: float = 0.0
    failing_since: float = 0.0


def begun(contact: Contact, *, now: float) -> Contact:
    """A fetch begins."""
    return replace(contact, began=now)


def ended(contact: Contact, *, answered: bool, now: float) -> Contact:
    """The fetch that began last came to its end."""
    if answered:
        return replace(contact, answered=contact.began, failing_since=0.0)
    return replace(contact, failing_since=contact.failing_since or now)


def lifeline_of(
    rollout: Rollout, contact: Contact, flips: Iterable[float], *, now: float
) -> Lifeline:
    """The way to Git. `flips`: when each node was known to have taken the rollout's publication."""
    confirm = rollout.plan.confirm_seconds
    if not confirm or rollout.phase not in STAGES | HALTED | {Phase.PUBLISHED}:
        return Lifeline.OPEN
    unproven = _unproven(rollout, contact, flips)
    if not contact.failing_since:
        return Lifeline.AWAITED if unproven else Lifeline.OPEN
    is_lost = any(
        now - flip >= confirm and contact.failing_since >= _earliest(rollout, flip)
        for flip in unproven
    )
    return Lifeline.LOST if is_lost else Lifeline.AWAITED


def fetch_is_due(rollout: Rollout, contact: Contact, flips: Iterable[float], *, now: float) -> bool:
    """True if a flip waits for its proof and nobody has asked Git lately."""
    confirm = rollout.plan.confirm_seconds
    young = [flip for flip in _unproven(rollout, contact, flips) if now - flip < confirm]
    is_unasked = any(flip >= contact.began for flip in young)
    return is_unasked or (bool(young) and now - contact.began >= confirm / TRIES)


def _unproven(rollout: Rollout, contact: Contact, flips: Iterable[float]) -> list[float]:
    return [flip for flip in flips if flip >= contact.answered] if _enforces(rollout) else []


def _enforces(rollout: Rollout) -> bool:
    """True if some nodes are to enforce the candidate where the rollout stands."""
    if rollout.phase is Phase.PUBLISHED:
        return True
    if rollout.phase not in STAGES | HALTED:
        return False
    return rollout.plan.stages[rollout.stage].kind is not StageKind.SHADOW


def _earliest(rollout: Rollout, flip: float) -> float:
    """When the node may have flipped: it was known within `confirm`, else the node had gone back."""
    return max(flip - rollout.plan.confirm_seconds, min(rollout.since, flip))
