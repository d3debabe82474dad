"""What the driver of rollouts is given: revisions and requests, a store, a publisher.

Values and protocols only, so that tests can put a disk that dies in place of the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from netpolicy.bundle import PackedUnit
from netpolicy.encryption import OFF, Encryption
from reconciler.publication import Content, Publication
from reconciler.rollout.expected import ExpectedDenial
from reconciler.rollout.machine import Rollout
from reconciler.rollout.plan import DIRECT, Plan
from reconciler.rollout.wanted import Wanted
from reconciler.state.rollouts import Change


class Action(StrEnum):
    """What people ask for; the words of the command line and of the annotations."""

    PROMOTE = "promote"
    APPROVE = "approve"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Somebody's wish about one revision. `token` is the whole value that asked; `to`: for a rollback,
    the revision to go back to (empty: the one before)."""

    action: Action
    revision: str
    token: str
    by: str = ""
    reason: str = ""
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An accepted revision, ready to begin."""

    revision: str
    digest: str
    units: Mapping[str, PackedUnit]
    own_plan: Plan = DIRECT
    expected: tuple[ExpectedDenial, ...] = ()
    encryption: Encryption = OFF


class Begun(StrEnum):
    """What became of a revision that was offered."""

    BEGUN = "begun"
    UNCHANGED = "unchanged"
    TAKEN_BACK = "taken back"


class Store(Protocol):
    """Where rollouts are kept (`state.rollouts.RolloutStore`)."""

    def save(self, change: Change) -> None:
        """Store all of a change or nothing."""

    def current(self) -> Rollout | None:
        """The rollout that moved last."""

    def rollout_of(self, revision: str) -> Rollout | None:
        """The rollout of a revision, if it is remembered."""


class Publishes(Protocol):
    """Who signs and announces (`publisher.Publisher`)."""

    @property
    def sequence(self) -> int:
        """The publication in force; 0 before the first."""

    @property
    def standing(self) -> Wanted | None:
        """What it says; None before the first."""

    @property
    def brings_encryption(self) -> bool:
        """True if the candidate encrypts, and otherwise than the stable channel."""

    @property
    def digest(self) -> str:
        """The bundle of its stable units."""

    def offer(self, revision: str, content: Content) -> None:
        """Keep what the newest revision says at hand."""

    def has_units(self, revision: str) -> bool:
        """True if the revision can be signed."""

    def was_stable(self, revision: str) -> bool:
        """True if it was enforced once, and is kept."""

    @property
    def may_advance(self) -> bool:
        """False while only what was enforced before may be published."""

    def may_publish(self, what: Wanted) -> bool:
        """True if this may be signed now."""

    def deletions(self, units: Mapping[str, PackedUnit]) -> tuple[int, int]:
        """How many of the stable policies these units lack, and how many there are."""

    def sign(self, what: Wanted) -> Publication:
        """Sign it as the next sequence; raises StalledError or TransientError."""

    def announce(self, publication: Publication) -> None:
        """Make it the one in force; it was saved."""
