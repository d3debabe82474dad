"""What the command line prints: diagnostics, differences and status, for people or machines.

In:   values
Out:  text, or plain data for JSON
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from netpolicy.errors import Diagnostic, Severity, render
from netpolicy.status import Condition
from reconciler.publication import Publication
from reconciler.state.fleet import AgentRecord
from reconciler.state.judgements import Judgement

SHORT_HASH = 12
SHOWN_FAULTS = 10
"""Of a refused revision, in `tidegate status`."""


def diagnostics_text(diagnostics: Iterable[Diagnostic]) -> str:
    """All diagnostics as a person reads them, a blank line between two."""
    return "\n\n".join(render(diagnostic) for diagnostic in diagnostics)


def diagnostics_data(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """All diagnostics for machines."""
    return [asdict(diagnostic) for diagnostic in diagnostics]


def verdict_line(diagnostics: Sequence[Diagnostic], *, policies: int) -> str:
    """The last line of `tidegate validate`."""
    errors = sum(d.severity is Severity.ERROR for d in diagnostics)
    warnings = len(diagnostics) - errors
    outcome = "refused" if errors else "accepted"
    return f"{outcome}: {policies} policies, {errors} errors, {warnings} warnings"


def status_data(
    publication: Publication | None,
    judgement: Judgement | None,
    phase: str,
    conditions: Sequence[Condition],
    agents: Sequence[AgentRecord],
) -> dict[str, Any]:
    """Everything `tidegate status` knows, for machines."""
    return {
        "publication": None
        if publication is None
        else {
            "revision": publication.revision,
            "sequence": publication.sequence,
            "digest": publication.digest,
            "phase": phase,
        },
        "lastJudged": None
        if judgement is None
        else {
            "revision": judgement.revision,
            "accepted": judgement.accepted,
            "summary": judgement.summary,
            "judgedAt": judgement.judged_at,
            "diagnostics": diagnostics_data(judgement.diagnostics),
        },
        "conditions": [asdict(condition) for condition in conditions],
        "agents": [asdict(agent) for agent in agents],
    }


def status_parts(status: dict[str, Any], faults: Sequence[Diagnostic]) -> list[Table | str]:
    """The same for people, with the faults of a refused revision."""
    published, judged = status["publication"], status["lastJudged"]
    parts: list[Table | str] = []
    if published is None:
        parts.append("nothing is published yet")
    else:
        parts.append(
            f"revision {published['revision'][:SHORT_HASH]}  {published['phase'].lower()}"
            f"  sequence {published['sequence']}  bundle {published['digest'][:SHORT_HASH]}"
        )
    if judged is not None and not judged["accepted"]:
        parts += [
            f"refused  {judged['revision'][:SHORT_HASH]}  {judged['summary']}",
            "",
            diagnostics_text(faults[:SHOWN_FAULTS]),
        ]
        if (more := len(faults) - SHOWN_FAULTS) > 0:
            parts += ["", f"and {more} more; all with -o json"]
    parts += ["", _conditions_table(status["conditions"]), "", _agents_table(status["agents"])]
    return parts


def _conditions_table(conditions: Iterable[dict[str, Any]]) -> Table:
    table = Table("condition", "status", "reason", "since", "message", box=None)
    for c in conditions:
        status = "true" if c["status"] else "false"
        table.add_row(c["type"], status, c["reason"], _time(c["since"]), c["message"])
    return table


def _agents_table(agents: Iterable[dict[str, Any]]) -> Table:
    table = Table("node", "connected", "sequence", "digest", "since", "error", box=None)
    for agent in agents:
        table.add_row(
            agent["node"],
            "yes" if agent["connected"] else "no",
            str(agent["sequence"]),
            agent["digest"][:SHORT_HASH],
            _time(agent["changed_at"]),
            agent["error"],
        )
    return table


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ") if seconds else ""
