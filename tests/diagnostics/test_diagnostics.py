"""Bad policies, with what must be said of each beside the line at fault: `# expect: TG105 TG110`.

Every diagnostic of a file must be expected, and every expected one found, at its very line.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from netpolicy.errors import Diagnostic, has_errors, render
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.validate import find_mistakes, validate

BAD = sorted(Path(__file__).parent.glob("*.yaml"))
EXPECT = re.compile(r"# expect: ((?:TG\d{3} ?)+)")


def diagnose(path: Path) -> list[Diagnostic]:
    file = SourceFile(path=f"policies/{path.name}", blob_id="", data=path.read_bytes())
    reading = read_policies([file])
    found = [*reading.diagnostics, *validate(reading.objects)]
    if has_errors(found):
        return found
    return [*found, *find_mistakes(reading.objects, compile_policies(reading.objects))]


def expected_of(path: Path) -> Counter[tuple[int, str]]:
    return Counter(
        (number, code)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (found := EXPECT.search(line))
        for code in found.group(1).split()
    )


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_fault_is_told_at_its_line(path: Path) -> None:
    diagnostics = diagnose(path)
    found = Counter((d.place.line, d.code) for d in diagnostics)
    assert found == expected_of(path), "\n".join(map(render, diagnostics))


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_diagnostic_is_complete_and_in_our_own_words(path: Path) -> None:
    for diagnostic in diagnose(path):
        line = path.read_text().splitlines()[diagnostic.place.line - 1]
        assert diagnostic.excerpt == line
        assert diagnostic.why
        assert diagnostic.fix
        assert diagnostic.place.column + diagnostic.place.length - 1 <= len(line) + 1
        said = render(diagnostic).lower()
        assert not any(word in said for word in ("cerberus", "traceback", "libyaml", "scanner"))
