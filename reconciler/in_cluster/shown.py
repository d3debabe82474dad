"""What PolicyRollout objects say, in the shape in which `tidegate rollout` shows a rollout.

In:   RolloutObject, `now`
Out:  plain data, as `staging.text` makes it of a state database; Entry values
Pure. An object says less: of nodes their number, of flows the worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from reconciler.cluster.kinds import RolloutObject
from reconciler.rollout.machine import HALTED, STAGES, TAKEN_BACK
from reconciler.state.rollouts import Entry

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def current_of(found: Iterable[RolloutObject], *, stable: str) -> RolloutObject | None:
    """The rollout that is on its way; without one, the one that moved last."""
    said = [one for one in found if one.status]
    on_its_way = [one for one in said if _phase(one) in STAGES | HALTED]
    return max(
        on_its_way or said, key=lambda one: (_since(one), one.revision == stable), default=None
    )


def is_taken_back(found: RolloutObject) -> bool:
    """True if its revision was taken back."""
    return _phase(found) in TAKEN_BACK


def shown_status(
    found: RolloutObject, *, enforced: RolloutObject | None, stable: str, now: float
) -> dict[str, Any]:
    """Everything that an object says of its rollout, and what the enforced one previews."""
    said, phase = found.status, _phase(found)
    is_on_its_way = phase in STAGES | HALTED
    return {
        "revision": found.revision,
        "phase": phase,
        "reason": said.get("message", ""),
        "since": _since(found),
        "sequence": said.get("sequence", 0),
        "stable": stable,
        "stages": said.get("stages", []),
        "stage": said.get("stage", 0) if is_on_its_way else None,
        "promotion": said.get("promotion", ""),
        "windowOpens": seconds_of(said["windowOpens"]) if "windowOpens" in said else None,
        "soakSecondsLeft": _soak_left(found, now) if phase in STAGES else None,
        "seen": _seen(said["evidence"]) if "evidence" in said else None,
        "preview": enforced.status.get("preview") if enforced else None,
    }


def shown_history(found: Iterable[RolloutObject]) -> list[Entry]:
    """What happened to all of them, the newest first."""
    entries = [
        Entry(
            at=seconds_of(one.get("at", "")),
            revision=each.revision,
            event=one.get("event", ""),
            phase=one.get("phase", ""),
            by=one.get("by", ""),
            reason=one.get("reason", ""),
        )
        for each in found
        # Oldest first, so that sorting keeps the order of what happened within one second.
        for one in reversed(each.status.get("history", []))
    ]
    return sorted(entries, key=lambda entry: entry.at)[::-1]


def _seen(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "answer": evidence.get("answer", ""),
        "reasons": evidence.get("reasons", []),
        "nodeCounts": evidence.get("nodes", {}),
        "flows": evidence.get("flows", 0),
        "pods": evidence.get("pods", 0),
        "omitted": evidence.get("omitted", 0),
        "unexpected": evidence.get("worst", []),
        "others": evidence.get("others", []),
    }


def _soak_left(found: RolloutObject, now: float) -> float:
    soak = float(found.status.get("soakSeconds", 0))
    return max(0.0, _since(found) + soak - now) if found.status.get("sequence") else soak


def _phase(found: RolloutObject) -> str:
    return str(found.status.get("phase", ""))


def _since(found: RolloutObject) -> float:
    return seconds_of(str(found.status.get("since", "")))


def seconds_of(text: str) -> float:
    """A time of a status in seconds since the epoch; 0 if it is none."""
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
