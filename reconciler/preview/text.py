"""What `tidegate preview` prints.

In:   Replayed
Out:  plain data for JSON; text and tables for people; Markdown for a pull request's comment
Pure.

Holds always:
1. Names come from an export, which anybody may have written: they are printable, and no markup.
"""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table

from reconciler.preview.rows import Kind, Replayed, RowKey
from reconciler.rollout.gates import number_of

MOST_ROWS: Final = 30
_MARKUP: Final = str.maketrans({one: f"\\{one}" for one in "\\`*_{}[]<>|#@!"})


def data(found: Replayed) -> dict[str, Any]:
    """Everything, for machines."""
    return {
        "flows": found.flows,
        "skipped": {str(why): count for why, count in sorted(found.skipped.items())},
        **{str(kind): _kind_data(found, kind) for kind in Kind},
    }


def parts(found: Replayed) -> list[Table | str]:
    """For people at a terminal."""
    shown: list[Table | str] = []
    for kind in Kind:
        rows = found.rows(kind)
        if not rows:
            continue
        table = Table("seen", "from", "to", "port", "by", box=None)
        for key, count in rows[:MOST_ROWS]:
            what = " ".join(filter(None, (key.port, key.request)))
            cells = (key.source, key.destination, what, found.by.get(key, ""))
            table.add_row(str(count), *map(_printable, cells))
        shown += [f"would be {kind}:", table, *_more(found, kind, "all with -o json"), ""]
    return [*shown, _summary(found), *_skipped(found)]


def markdown(found: Replayed) -> str:
    """For a comment."""
    lines = [f"**{_summary(found)}**"]
    for kind in Kind:
        rows = found.rows(kind)
        if not rows:
            continue
        lines += ["", f"Would be {kind}:", ""]
        lines += ["| seen | from | to | port | by |", "|---:|---|---|---|---|"]
        lines += [_markdown_row(found, key, count) for key, count in rows[:MOST_ROWS]]
        lines += [f"\n{line}" for line in _more(found, kind, "not listed here")]
    lines += [f"\n{line}" for line in _skipped(found)]
    return "\n".join(lines)


def _summary(found: Replayed) -> str:
    cut, opened = found.total(Kind.CUT), found.total(Kind.OPENED)
    flows = number_of(found.flows, "observed flow")
    if not cut and not opened:
        return f"{flows}: none would be cut, none opened"
    return f"{flows}: {cut} would be cut, {opened} opened"


def _skipped(found: Replayed) -> list[str]:
    return [
        f"{number_of(count, 'line')} left out: {why}"
        for why, count in sorted(found.skipped.items())
    ]


def _more(found: Replayed, kind: Kind, where: str) -> list[str]:
    rows = found.rows(kind)[MOST_ROWS:]
    flows = found.omitted[kind] + sum(count for _, count in rows)
    return [f"and {number_of(flows, 'flow')} more ({where})"] if flows else []


def _markdown_row(found: Replayed, key: RowKey, count: int) -> str:
    what = " ".join(filter(None, (key.port, key.request)))
    cells = (key.source, key.destination, what, found.by.get(key, ""))
    return f"| {count} | {' | '.join(_printable(cell).translate(_MARKUP) for cell in cells)} |"


def _kind_data(found: Replayed, kind: Kind) -> dict[str, Any]:
    return {
        "flows": found.total(kind),
        "omitted": found.omitted[kind],
        "rows": [
            {
                "seen": count,
                "from": key.source,
                "to": key.destination,
                "port": key.port,
                "request": key.request or None,
                "by": found.by.get(key, ""),
            }
            for key, count in found.rows(kind)
        ],
    }


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
