"""What `tidegate rollout` prints: where a revision is, what was seen of it, who moved it.

In:   Rollout, Sighting, Entry values, `now`
Out:  plain data for JSON; text and tables for people
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table

from netpolicy.evidence import Cause, Difference, FlowSide
from reconciler.rollout.gates import Answer, number_of, protocol_word, side_text
from reconciler.rollout.machine import HALTED, STAGES, Phase, Rollout
from reconciler.rollout.plan import Promotion
from reconciler.rollout.progress import opens_at, soak_left
from reconciler.state.rollouts import Entry, Previewed, Sighting

SHORT_HASH: Final = 12
MOST_ROWS: Final = 20

WOULD_BE: Final = {
    Cause.WOULD_DENY: "denied",
    Cause.WOULD_ALLOW: "allowed",
    Cause.WOULD_REDIRECT: "judged by a proxy",
    Cause.WOULD_NOT_REDIRECT: "no longer judged by a proxy",
    Cause.NOT_OBSERVED: "seen only where it is enforced",
}


def status_data(
    rollout: Rollout,
    sighting: Sighting | None,
    *,
    stable: str,
    preview: Previewed | None = None,
    now: float,
) -> dict[str, Any]:
    """Everything that is known of the current rollout, for machines. `preview`: of what is enforced."""
    in_stage, is_on_its_way = rollout.phase in STAGES, rollout.phase in STAGES | HALTED
    return {
        "revision": rollout.revision,
        "phase": rollout.phase,
        "reason": rollout.reason,
        "since": rollout.since,
        "sequence": rollout.sequence,
        "stable": stable,
        "stages": [stage.name for stage in rollout.plan.stages],
        "stage": rollout.stage if is_on_its_way else None,
        "promotion": rollout.plan.promotion,
        "soakSecondsLeft": soak_left(rollout, now) if in_stage else None,
        "windowOpens": opens_at(rollout, now),
        "seen": None if sighting is None or not sighting.answer else _sighting_data(sighting),
        "preview": None if preview is None else _preview_data(preview),
    }


def status_parts(data: dict[str, Any]) -> list[Table | str]:
    """The same for people."""
    parts: list[Table | str] = [
        f"revision  {data['revision'][:SHORT_HASH]}  {data['phase']}{_stage_text(data)}",
        f"enforced  {data['stable'][:SHORT_HASH] or 'nothing yet'}",
    ]
    if data["reason"]:
        parts.append(f"because   {data['reason']}")
    if (left := data["soakSecondsLeft"]) is not None:
        parts.append(f"next      {_next_text(data, left)}")
    elif _has_evidence_now(data):
        by = ", when somebody promotes it" if data["promotion"] == Promotion.MANUAL else ""
        parts.append(f"next      {_target(data)}{by}: the evidence that was missing has come")
    if (opens := data.get("windowOpens")) is not None:
        parts.append(f"not before {_time_text(opens)}: the rollout windows are closed")
    return [*parts, *_seen_parts(data), *_preview_parts(data.get("preview"))]


def _seen_parts(data: dict[str, Any]) -> list[Table | str]:
    seen = data["seen"]
    if seen is None:
        return []
    parts: list[Table | str] = []
    why = "; ".join(seen["reasons"])
    if data["stage"] is None:
        parts += ["", "what was seen of it while it was on its way:"]
    if why != data["reason"]:
        parts.append(f"gates     {': '.join(filter(None, (seen['answer'], why)))}")
    parts.append(
        f"seen      {number_of(seen['flows'], 'flow')} of {number_of(seen['pods'], 'pod')}"
    )
    parts += [f"nodes     {line}" for line in _node_lines(seen)]
    parts += _difference_part("would be cut, and no intent says so:", seen["unexpected"])
    parts += _difference_part("other differences:", seen["others"])
    return [*parts, *_omitted_part(seen["omitted"])]


def _preview_parts(preview: dict[str, Any] | None) -> list[Table | str]:
    """What is enforced already, and what its policies would do that are not."""
    if preview is None:
        return []
    judged = f"{number_of(preview['flows'], 'flow')} of {number_of(preview['pods'], 'pod')}"
    parts: list[Table | str] = [
        "",
        f"policies of mode dry-run or canary, where they are not enforced: {judged} judged by them",
    ]
    parts += _difference_part("would be cut if they were:", preview["cut"])
    parts += _difference_part("other differences if they were:", preview["others"])
    return [*parts, *_omitted_part(preview["omitted"])]


def _omitted_part(omitted: int) -> list[Table | str]:
    flows = number_of(omitted, "differing flow")
    return [f"and {flows}, counted but not listed"] if omitted else []


def history_data(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The history for machines, the newest first."""
    return [asdict(entry) for entry in entries]


def history_text(entries: Iterable[Entry]) -> str:
    """The history for people: a line an entry."""
    return "\n".join(map(_entry_text, entries))


def _entry_text(entry: Entry) -> str:
    when = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    by = f" by {entry.by}" if entry.by else ""
    why = f": {entry.reason}" if entry.reason else ""
    moved = f"{entry.event} → {entry.phase}" if entry.phase else entry.event
    return _printable(f"{when}  {entry.revision[:SHORT_HASH]}  {moved}{by}{why}")


def _time_text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%a %Y-%m-%d %H:%M:%SZ")


def _stage_text(data: dict[str, Any]) -> str:
    stages = data["stages"]
    if data["stage"] is None:
        return ""
    marked = [f"[{name}]" if at == data["stage"] else name for at, name in enumerate(stages)]
    return f"  ({' → '.join([*marked, 'everywhere'])})"


def _target(data: dict[str, Any]) -> str:
    """Where it gets next."""
    return str([*data["stages"], "everywhere"][data["stage"] + 1])


def _has_evidence_now(data: dict[str, Any]) -> bool:
    """It became inconclusive, and waits for somebody or a window since the evidence came."""
    seen = data["seen"]
    return (
        data["phase"] == Phase.INCONCLUSIVE and seen is not None and seen["answer"] == Answer.PASS
    )


def _next_text(data: dict[str, Any], left: float) -> str:
    target = _target(data)
    if not data["sequence"]:
        return "not published yet"
    soak = f"after {_duration(left)} more" if left else "now"
    if data["promotion"] == Promotion.MANUAL:
        return f"{target}, {soak}, when somebody promotes it and the gates pass"
    return f"{target}, {soak}, if the gates pass"


def _node_lines(seen: dict[str, Any]) -> list[str]:
    """`shadow: node-a, node-b`, or `shadow: 2`: a line for each thing that nodes do."""
    if "nodeCounts" in seen:
        return [f"{doing}: {count}" for doing, count in sorted(seen["nodeCounts"].items())]
    by_doing: dict[str, list[str]] = {}
    for node, doing in seen["nodes"].items():
        by_doing.setdefault(doing, []).append(node)
    return [f"{doing}: {_some(names)}" for doing, names in sorted(by_doing.items())]


def _some(names: list[str]) -> str:
    more = len(names) - MOST_ROWS
    return ", ".join(names[:MOST_ROWS]) + (f" and {more} more" if more > 0 else "")


def _difference_part(title: str, rows: list[dict[str, Any]]) -> list[Table | str]:
    if not rows:
        return []
    table = Table("flows", "from", "to", "port", "would be", "by", box=None)
    for row in rows[:MOST_ROWS]:
        rules = row["by"].replace(", ", "\n")  # one below the other: a line stays short
        # In a cluster the object may be an older reconciler's, which knows of no requests.
        what = " ".join(filter(None, (row["port"], row.get("request"))))
        table.add_row(str(row["count"]), row["from"], row["to"], what, row["wouldBe"], rules)
    more = len(rows) - MOST_ROWS
    return ["", title, table, *([f"and {more} more; all with -o json"] if more > 0 else [])]


def _sighting_data(sighting: Sighting) -> dict[str, Any]:
    return {
        "answer": sighting.answer,
        "reasons": list(sighting.reasons),
        "nodes": dict(sighting.nodes),
        "flows": sighting.flows,
        "pods": sighting.pods,
        "omitted": sighting.omitted,
        "unexpected": [_difference_data(one) for one in sighting.unexpected],
        "others": [_difference_data(one) for one in sighting.others],
    }


def _preview_data(preview: Previewed) -> dict[str, Any]:
    return {
        "flows": preview.flows,
        "pods": preview.pods,
        "omitted": preview.omitted,
        "cut": [_difference_data(one) for one in preview.cut],
        "others": [_difference_data(one) for one in preview.others],
    }


def _difference_data(difference: Difference) -> dict[str, Any]:
    rules = ", ".join(map(str, difference.rules))
    return {
        "count": difference.count,
        "from": _side(difference.source),
        "to": _side(difference.destination),
        "port": f"{protocol_word(difference.protocol)}/{difference.port}",
        "request": _printable(str(difference.request)) if difference.request else None,
        "direction": difference.direction.word,
        "wouldBe": WOULD_BE[difference.cause],
        "by": _printable(rules or "no rule: default deny"),
    }


def _side(side: FlowSide) -> str:
    return _printable(side_text(side))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
