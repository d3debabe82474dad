"""Commit-confirm: a flip stays only if the agent sees its reconciler after it.

In:   Trial, Event, now
Out:  the next Trial, and the command it calls for
Pure. Times are seconds of a clock that goes on while the agent is dead (CLOCK_BOOTTIME).

    SETTLED ──Begun──▶ AWAITING ──Confirmed, Unchanged, Failed, Lost──▶ SETTLED
                          │ Ticked, past the deadline
                          ▼
                       REVERTED ──Begun──▶ AWAITING
                                ──Superseded──▶ SETTLED       (both by a newer publication)

Holds always:
1. What was taken back is not taken again: only a publication above it begins anew.
2. A trial ends: it is confirmed, or at its deadline it is taken back, however often the agent restarts.
3. Only a confirmation of the very publication that is awaited keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Whether what is in force may stay."""

    SETTLED = "settled"
    AWAITING = "awaiting"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The last flip's standing. `sequence`: awaited, or taken back last; `confirm_seconds` long at most.

    `candidate_digest`: its candidate's, if it has one. `taken_back`: no publication up to this one is
    taken any more.
    """

    stage: Stage = Stage.SETTLED
    sequence: int = 0
    candidate_digest: str = ""
    deadline: float = 0.0
    confirm_seconds: int = 0
    taken_back: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A publication is about to come into force, and must be confirmed in so many seconds."""

    sequence: int
    confirm_seconds: int
    candidate_digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchanged:
    """It came into force without a flip: there is nothing to confirm."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It could not come into force: what was in force still is."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The reconciler answered what was said to it after the flip."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A publication that need not be confirmed came into force."""

    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """Time went by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The agent started again, and the kernel still enforces what is awaited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The agent started again, and the kernel enforces something else."""


Event = Begun | Unchanged | Failed | Confirmed | Superseded | Ticked | Resumed | Lost


class Command(StrEnum):
    """What the shell does after the trial is saved. Each may be repeated without harm."""

    KEEP = "keep"
    TAKE_BACK = "take-back"


NEXT: Final[dict[tuple[Stage, type[Event]], Stage]] = {
    (Stage.SETTLED, Begun): Stage.AWAITING,
    (Stage.REVERTED, Begun): Stage.AWAITING,
    (Stage.REVERTED, Superseded): Stage.SETTLED,
    (Stage.AWAITING, Unchanged): Stage.SETTLED,
    (Stage.AWAITING, Failed): Stage.SETTLED,
    (Stage.AWAITING, Confirmed): Stage.SETTLED,
    (Stage.AWAITING, Ticked): Stage.REVERTED,
    (Stage.AWAITING, Resumed): Stage.AWAITING,
    (Stage.AWAITING, Lost): Stage.SETTLED,
}

COMMAND_OF: Final[dict[type[Event], Command]] = {
    Confirmed: Command.KEEP,
    Unchanged: Command.KEEP,
    Ticked: Command.TAKE_BACK,
}


def step(trial: Trial, event: Event, *, now: float) -> tuple[Trial, Command | None]:
    """Fold one event in; events that do not matter now are dropped before the table."""
    if _is_stale(trial, event, now):
        return trial, None
    stage = NEXT[trial.stage, type(event)]
    return _moved(replace(trial, stage=stage), event, now), COMMAND_OF.get(type(event))


def is_refused(trial: Trial, sequence: int) -> bool:
    """True if this publication was taken back, or is older than one that was."""
    return sequence <= trial.taken_back


def _is_stale(trial: Trial, event: Event, now: float) -> bool:
    match event:
        case Begun(sequence=sequence):
            return is_refused(trial, sequence)
        case Superseded(sequence=sequence):
            return trial.stage is not Stage.REVERTED or is_refused(trial, sequence)
        case (
            Unchanged(sequence=sequence) | Failed(sequence=sequence) | Confirmed(sequence=sequence)
        ):
            return trial.stage is not Stage.AWAITING or sequence != trial.sequence
        case Ticked():
            return trial.stage is not Stage.AWAITING or now < trial.deadline
        case Resumed() | Lost():
            return trial.stage is not Stage.AWAITING


def _moved(trial: Trial, event: Event, now: float) -> Trial:
    match event:
        case Begun():
            return replace(
                trial,
                sequence=event.sequence,
                candidate_digest=event.candidate_digest,
                deadline=now + event.confirm_seconds,
                confirm_seconds=event.confirm_seconds,
            )
        case Ticked():
            return replace(trial, taken_back=max(trial.taken_back, trial.sequence))
        case Resumed():
            # A clock that began anew must not make the trial longer.
            return replace(trial, deadline=min(trial.deadline, now + trial.confirm_seconds))
        case _:
            return trial
