"""Write docs/deliberate-differences.md from the table of differences.

Run from the root of the repository: python -m tests.support.corpus_page
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.corpus_differences import DIFFERENCES, Difference, Judge

PAGE: Final = Path(__file__).parents[2] / "docs" / "deliberate-differences.md"
_OPENING: Final = """\
# Deliberate differences

Tidegate reads policies as Cilium 1.19.4 and Kubernetes mean them. These are all the places where it does
not, each with its reason. `make corpus CORPUS=DIR` compares both on a folder of cases and fails on any
difference that is not in this list, which is made from `tests/support/corpus_differences.py`.

Not a difference but a setting: the corpora judge traffic from the local host by policy alone; Tidegate,
as a stock agent, admits it unless a rule denies it or the setting is off. What a pod sends to itself is
not judged.
"""


def page() -> str:
    """The text of the page."""
    return _OPENING + "".join(f"\n## {judge}\n\n{_table(judge)}" for judge in Judge)


def _table(judge: Judge) -> str:
    rows = [_row(d) for d in DIFFERENCES if d.judge is judge]
    return "\n".join(
        ["| what | theirs | Tidegate | why | diagnostic |", "|---|---|---|---|---|", *rows, ""]
    )


def _row(difference: Difference) -> str:
    codes = ", ".join(_links(difference)) or "none"
    parts = (difference.name, difference.theirs, difference.ours, difference.reason, codes)
    return f"| {' | '.join(part.replace('|', chr(92) + '|') for part in parts)} |"


def _links(difference: Difference) -> Iterator[str]:
    for code in difference.codes:
        yield f"[{code}](diagnostics/{code}.md)"


if __name__ == "__main__":
    PAGE.write_text(page())
