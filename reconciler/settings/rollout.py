"""The `rollout` section of `tidegate.yaml`: when a revision gets where.

In:   the section's fields
Out:  Plan; faults beside those already found
Pure. No section: the plan that promotes at once.

    rollout:
      shadow: {soak: 10m}
      canary: {nodes: {matchLabels: {tidegate.dev/canary: "true"}}, soak: 10m}
      waves: {percent: [25, 50], soak: 5m}
      promotion: automatic
"""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import Final, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from netpolicy.fields import BAD_VALUE, Fields
from reconciler.rollout.plan import (
    DIRECT,
    DeletionBudget,
    Expiry,
    Gates,
    LabelPairs,
    Plan,
    Promotion,
    Stage,
    StageKind,
)
from reconciler.rollout.windows import MINUTES_A_DAY, WEEKDAYS, Window
from reconciler.settings.duration import read_seconds

DEFAULT_SOAK: Final = "10m"
MAX_WAVES: Final = 20
MAX_LABELS: Final = 32
MAX_WINDOWS: Final = 50
MAX_CONFIRM_SECONDS: Final = 3600
REVISION: Final = "{revision}"

_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_BRANCH: Final = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9._/-]|\{revision\}){0,150}([A-Za-z0-9_]|\{revision\})"
)
_BUDGET: Final = re.compile(r"(\d{1,9})(%?)")

Word = TypeVar("Word", bound=StrEnum)


def read_plan(fields: Fields) -> Plan:
    """The plan that a section describes; what is wrong with it is added to the fields' faults."""
    if not fields.given:
        return DIRECT
    labels, canary = _canary(fields.record("canary"))
    pause = fields.record("pauseExpiry")
    plan = Plan(
        stages=(_shadow(fields.record("shadow")), *canary, *_waves(fields.record("waves"), labels)),
        promotion=_word(fields, "promotion", Promotion.AUTOMATIC),
        gates=_gates(fields.record("gates")),
        inconclusive_seconds=read_seconds(fields, "inconclusive", "1h"),
        windows=_windows(fields),
        deletion_budget=_budget(fields),
        pause_seconds=read_seconds(pause, "after", "24h"),
        pause_then=_word(pause, "then", Expiry.ABORT),
        confirm_seconds=read_seconds(fields, "confirm", "0s", most=MAX_CONFIRM_SECONDS),
        revert_branch=_revert_branch(fields),
        canary_nodes=labels,
    )
    pause.finish()
    fields.finish()
    return plan


def _shadow(fields: Fields) -> Stage:
    soak = read_seconds(fields, "soak", DEFAULT_SOAK)
    fields.finish()
    return Stage(kind=StageKind.SHADOW, soak_seconds=soak)


def _canary(fields: Fields) -> tuple[LabelPairs, tuple[Stage, ...]]:
    """The canary nodes' labels, and the stage; neither without the section."""
    soak = read_seconds(fields, "soak", DEFAULT_SOAK)
    nodes = fields.record("nodes", required=fields.given)
    labels = tuple(sorted(nodes.text_map("matchLabels").items()))
    if nodes.given and not 0 < len(labels) <= MAX_LABELS:
        nodes.fault(
            (), BAD_VALUE, f"matchLabels names the canary nodes by 1 to {MAX_LABELS} labels"
        )
    nodes.finish()
    fields.finish()
    stage = Stage(kind=StageKind.CANARY, soak_seconds=soak, labels=labels)
    return labels, ((stage,) if labels else ())


def _waves(fields: Fields, labels: LabelPairs) -> tuple[Stage, ...]:
    soak = read_seconds(fields, "soak", DEFAULT_SOAK)
    percents = fields.numbers("percent")
    fields.finish()
    is_growing = all(low < high for low, high in pairwise(percents))
    if not is_growing or not all(0 < p <= 100 for p in percents) or len(percents) > MAX_WAVES:
        fields.fault(
            ("percent",),
            BAD_VALUE,
            f"percent is up to {MAX_WAVES} growing numbers from 1 to 100, such as [10, 50]",
        )
        return ()
    return tuple(
        Stage(kind=StageKind.WAVE, soak_seconds=soak, labels=labels, percent=float(percent))
        for percent in percents
    )


def _gates(fields: Fields) -> Gates:
    known = Gates()
    allows = _count(fields, "unexpectedAllows", -1)
    gates = Gates(
        unexpected_denials=_count(fields, "unexpectedDenials", known.unexpected_denials),
        unexpected_allows=None if allows < 0 else allows,
        minimum_flows=_count(fields, "minimumFlows", known.minimum_flows),
        minimum_pods=_count(fields, "minimumPods", known.minimum_pods),
        unreported_nodes=_count(fields, "unreportedNodes", known.unreported_nodes),
        refused_rise=_points(fields, "refusedRise", known.refused_rise),
        failed_rise=_points(fields, "failedRise", known.failed_rise),
    )
    fields.finish()
    return gates


def _windows(fields: Fields) -> tuple[Window, ...]:
    windows = tuple(_window(record) for record in fields.records("windows"))
    if len(windows) > MAX_WINDOWS:
        fields.fault(("windows",), BAD_VALUE, f"at most {MAX_WINDOWS} windows")
    return windows


def _window(fields: Fields) -> Window:
    days = fields.texts("days") or WEEKDAYS
    zone = fields.text("timezone", "UTC")
    start, end = _minute(fields, "from", "00:00"), _minute(fields, "to", "24:00")
    fields.finish()
    if unknown := [day for day in days if day not in WEEKDAYS]:
        fields.fault(("days",), BAD_VALUE, f'"{unknown[0]}" is no day: {", ".join(WEEKDAYS)}')
    if start == end:
        fields.fault(("to",), BAD_VALUE, "a window that ends when it begins is never open")
    if not _is_zone(zone):
        fields.fault(("timezone",), BAD_VALUE, f'no time zone "{zone}"; such as Europe/Berlin')
        zone = "UTC"
    numbers = tuple(WEEKDAYS.index(day) for day in days if day in WEEKDAYS)
    return Window(days=numbers, start=start, end=end, timezone=zone)


def _is_zone(name: str) -> bool:
    if name not in available_timezones() and name != "UTC":
        return False
    ZoneInfo(name)
    return True


def _minute(fields: Fields, key: str, default: str) -> int:
    """A time of the day as minutes since midnight."""
    text = fields.text(key, default)
    if _CLOCK.fullmatch(text) is None:
        fields.fault((key,), BAD_VALUE, f'{key} must be a time of the day such as "09:00"')
        text = default
    hours, minutes = text.split(":")
    return min(int(hours) * 60 + int(minutes), MINUTES_A_DAY)


def _budget(fields: Fields) -> DeletionBudget:
    text = fields.text_or_number("deletionBudget")
    if not text:
        return DeletionBudget()
    match = _BUDGET.fullmatch(text)
    if match is None or (match[2] and int(match[1]) > 100):
        fields.fault(
            ("deletionBudget",), BAD_VALUE, "deletionBudget is a number of policies, or such as 10%"
        )
        return DeletionBudget()
    number = int(match[1])
    return DeletionBudget(percent=float(number)) if match[2] else DeletionBudget(count=number)


def _revert_branch(fields: Fields) -> str:
    name = fields.text("revertBranch")
    if not name or (_BRANCH.fullmatch(name) and REVISION in name and ".." not in name):
        return name
    fields.fault(
        ("revertBranch",),
        BAD_VALUE,
        f"revertBranch is a branch's name that holds {REVISION}, such as tidegate/revert-{REVISION}",
    )
    return ""


def _count(fields: Fields, key: str, default: int) -> int:
    number = fields.number(key, default)
    if number < 0 and number != default:
        fields.fault((key,), BAD_VALUE, f"{key} must be 0 or more")
        return default
    return number


def _points(fields: Fields, key: str, default: int) -> int:
    number = fields.number(key, default)
    if not 0 <= number <= 100:
        fields.fault(
            (key,), BAD_VALUE, f"{key} is percentage points: 0 to 100, 100 to judge nothing"
        )
        return default
    return number


def _word(fields: Fields, key: str, default: Word) -> Word:
    kind, text = type(default), fields.text(key, str(default))
    if text not in list(kind):
        fields.fault((key,), BAD_VALUE, f"{key} is {' or '.join(kind)}")
        return default
    return kind(text)
