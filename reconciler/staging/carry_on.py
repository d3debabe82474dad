"""Publish a rollout where it stood, when what was known of it is lost.

In:   what was said of it; both revisions, compiled again
Out:  the Change to save: both rollouts, one publication of both channels
Pure but for the signing.

Holds always:
1. Stable and candidate go out in one publication: no node goes back meanwhile to what is stable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from reconciler.publication import Content
from reconciler.rollout.carrying_on import OnItsWay, carried_on
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.plan import plan_of
from reconciler.rollout.wanted import wanted
from reconciler.staging.entries import entry_of
from reconciler.staging.interfaces import Publishes, Revision
from reconciler.state.rollouts import Change

CARRIED_ON: Final = "CarriedOn"


def carrying_on(
    said: OnItsWay, stable: Revision, current: Revision, publisher: Publishes, *, now: float
) -> Change | None:
    """What to save and then announce; None if `current` must begin anew."""
    rollout = carried_on(said, _fresh(stable, current), now=now)
    if rollout is None:
        return None
    publication = publisher.sign(wanted(rollout))
    held = Rollout(
        revision=stable.revision,
        phase=Phase.PROMOTED,
        since=now,
        sequence=publication.sequence,
        digest=stable.digest,
        own_plan=stable.own_plan,
    )
    moved = replace(rollout, sequence=publication.sequence)
    return Change(
        rollouts=(held, moved),
        entries=(entry_of(held, CARRIED_ON, now), entry_of(moved, CARRIED_ON, now)),
        publication=publication,
        brought=current.revision,
        at=now,
    )


def content_of(revision: Revision) -> Content:
    """What is published of a revision."""
    return Content(units=revision.units, encryption=revision.encryption)


def _fresh(stable: Revision, current: Revision) -> Rollout:
    """What the rollout of `current` would be like if it began now."""
    return Rollout(
        revision=current.revision,
        digest=current.digest,
        stable=stable.revision,
        plan=plan_of(in_force=stable.own_plan, own=current.own_plan),
        own_plan=current.own_plan,
        stable_plan=stable.own_plan,
        expected=current.expected,
    )
