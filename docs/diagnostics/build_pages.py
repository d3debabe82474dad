"""Write one page for each diagnostic of policies, and the index of all pages in this folder.

Run from the root of the repository: python docs/diagnostics/build_pages.py
The examples are the files of tests/diagnostics: the first line that expects a code, with its neighbours.
Pages that are not made here (the source's, the settings') are listed in the index by their first line.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from netpolicy.yaml_faults import FAULTS
from reconciler.codes import CODES, Code

FOLDER: Final = Path(__file__).parent
EXAMPLES: Final = FOLDER.parents[1] / "tests" / "diagnostics"
INDEX: Final = "README.md"
EXPECT: Final = re.compile(r"\s*# expect: ((?:TG\d{3} ?)+)$")
NEIGHBOURS: Final = 3


def pages() -> dict[str, str]:
    """The text of every page made here, by file name."""
    known = {code: Code(fault.title, fault.why, fault.fix) for code, fault in FAULTS.items()}
    known |= CODES
    return {f"{code}.md": _page(code, entry) for code, entry in sorted(known.items())}


def index(made: dict[str, str]) -> str:
    """The index: these pages and those written by hand."""
    titles = {name: text.splitlines()[0].lstrip("# ") for name, text in made.items()}
    for path in FOLDER.glob("TG*.md"):
        if path.name not in titles:
            titles[path.name] = path.read_text().splitlines()[0].lstrip("# ")
    lines = [
        "# Diagnostics",
        "",
        "Codes are permanent. TG0xx: the repository and YAML; TG1xx: fields; TG2xx: meaning; TG3xx: warnings",
        "(they do not refuse a revision); TG4xx: the revision as a whole; TG5xx: settings and other files.",
        "",
    ]
    return "\n".join([*lines, *(f"- [{titles[name]}]({name})" for name in sorted(titles)), ""])


def _page(code: str, entry: Code) -> str:
    lines = [
        f"# {code}: {entry.title}",
        "",
        f"Weight: {Code.severity(code)}.",
        "",
        f"Why: {entry.why}.",
        "",
        f"Mend it: {entry.fix}.",
        "",
    ]
    if example := _example(code):
        lines += ["For example:", "", "```yaml", *example, "```", ""]
    return "\n".join(lines)


def _example(code: str) -> list[str]:
    for path in sorted(EXAMPLES.glob("*.yaml")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if (found := EXPECT.search(line)) and code in found.group(1).split():
                return _excerpt(lines, number, code)
    return []


def _excerpt(lines: list[str], number: int, code: str) -> list[str]:
    """The line and a few around it, of its own document, without the other expectations."""
    around = []
    for here in range(max(0, number - NEIGHBOURS), min(len(lines), number + NEIGHBOURS + 1)):
        if lines[here] == "---":
            if here > number:
                break
            around.clear()
            continue
        around.append(EXPECT.sub("", lines[here]) + (f" # {code}" if here == number else ""))
    return around


def main() -> None:
    """Write the pages and the index."""
    made = pages()
    for name, text in made.items():
        (FOLDER / name).write_text(text)
    (FOLDER / INDEX).write_text(index(made))


if __name__ == "__main__":
    main()
